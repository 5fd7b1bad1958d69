"""Compiled on first use, kept, registered; quietly absent without a compiler."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax import native

# Doubles an array of float32: the whole of the XLA interface that a handler needs.
DOUBLE = """
#include <cstdint>
#include "xla/ffi/api/c_api.h"
extern "C" XLA_FFI_Error *twice(XLA_FFI_CallFrame *frame) {
  if (frame->extension_start) {
    auto *e = reinterpret_cast<XLA_FFI_Metadata_Extension *>(frame->extension_start);
    e->metadata->api_version.major_version = XLA_FFI_API_MAJOR;
    e->metadata->api_version.minor_version = XLA_FFI_API_MINOR;
    return nullptr;
  }
  auto *from = static_cast<XLA_FFI_Buffer *>(frame->args.args[0]);
  auto *to = static_cast<XLA_FFI_Buffer *>(frame->rets.rets[0]);
  for (int64_t i = 0; i < from->dims[0]; ++i)
    static_cast<float *>(to->data)[i] = 2 * static_cast<float *>(from->data)[i];
  return nullptr;
}
"""
needs_compiler = pytest.mark.skipif(native.compiler() is None, reason="no C++ compiler here")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Libraries are kept here."""
    monkeypatch.setattr(native, "cache_folder", lambda kind: tmp_path)
    native.register.cache_clear()
    yield tmp_path
    native.register.cache_clear()


@needs_compiler
def test_a_handler_is_compiled_kept_and_called(folder, monkeypatch):
    name = native.register(DOUBLE, ("twice",))["twice"]
    x = jnp.arange(3.0)
    call = jax.ffi.ffi_call(name, jax.ShapeDtypeStruct((3,), "float32"))
    np.testing.assert_array_equal(jax.jit(call)(x), 2 * x)
    (library,) = folder.iterdir()
    assert library.stem in name
    native.register.cache_clear()
    monkeypatch.setattr(native, "_compile", lambda *a: pytest.fail("compiled again"))
    assert native.register(DOUBLE, ("twice",)) == {"twice": name}


@needs_compiler
def test_code_that_does_not_compile_is_said_and_left(folder, caplog):
    assert native.register("int main( {", ("twice",)) == {}
    assert "could not compile a kernel, so XLA compiles it instead" in caplog.text
    assert not list(folder.iterdir())


@pytest.mark.parametrize("setting", [{"GEOJAX_NATIVE": "off"}, {"PATH": "", "CXX": "no-compiler"}])
def test_absent_without_a_compiler(setting):
    code = "from geojax import native; print(native.compiler(), native.register('', ('f',)))"
    run = [sys.executable, "-c", code]
    out = subprocess.check_output(run, env=os.environ | setting, text=True)
    assert out.strip() == "None {}"
