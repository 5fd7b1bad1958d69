"""Runs keep what they should, and lists that end in the midst of one change nothing."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.md.verlet import VelocityVerlet

from geojax.inference import calculator
from geojax.simulation.jax_md import jax_md_potential, run_jax_md
from geojax.units import BOLTZMANN, FEMTOSECOND, PRESSURE
from tests.inference.test_elasticity import springs
from tests.simulation.jax_md.cases import crystal, free, jax_md, model

minimize, quantity, simulate = jax_md.minimize, jax_md.quantity, jax_md.simulate

KEY = jax.random.PRNGKey(0)
KELVIN = BOLTZMANN


def start(atoms, dt=1.0, temperature=300.0, *, potential=None, thing=None, **options):
    """A simulator of constant energy, and its first state."""
    potential = potential or jax_md_potential(thing or springs(), atoms, **options)
    init, step = simulate.nve(potential.energy_fn, potential.shift_fn, dt * FEMTOSECOND)
    neighbor = potential.neighbor_fn.allocate(potential.position)
    kT, mass = temperature * KELVIN, potential.mass
    return potential, step, init(KEY, potential.position, kT, mass=mass, neighbor=neighbor)


def kinetic(state):
    return quantity.kinetic_energy(momentum=state.momentum, mass=state.mass)


@pytest.mark.slow
def test_half_the_step_is_a_quarter_of_the_fluctuation(x64):
    spread = []
    for halvings in range(2):
        potential, step, state = start(crystal(), 4.0 / 2**halvings, skin=0.3)
        total = partial(total_energy, potential, potential.neighbor_fn.allocate(state.position))
        run = run_jax_md(
            potential, step, state, steps=120 * 2**halvings, every=2**halvings, observe=total
        )
        assert run.frames.shape == (120,)
        spread.append(run.frames.std())
    assert spread[0] < 0.02 * kinetic(state)
    assert 3.6 < spread[0] / spread[1] < 4.4


def total_energy(potential, neighbor, state):
    neighbor = potential.neighbor_fn.update(state.position, neighbor)
    return kinetic(state) + potential.energy_fn(state.position, neighbor)


@pytest.mark.parametrize("fractional", [pytest.param(False, marks=pytest.mark.slow), True])
def test_it_is_the_verlet_of_ase(fractional, x64):
    """A21. jax-md rounds timesteps to float32; this one has few digits."""
    dt = 1 / 16  # in Å (amu/eV)^½, the unit of time of ASE too
    atoms = crystal()
    atoms.rattle(0.05, seed=0)
    thing = springs()
    potential = jax_md_potential(thing, atoms, fractional=fractional, skin=0.3)
    init, step = simulate.nve(potential.energy_fn, potential.shift_fn, dt)
    neighbor = potential.neighbor_fn.allocate(potential.position)
    state = init(KEY, potential.position, 300 * KELVIN, mass=potential.mass, neighbor=neighbor)
    atoms.set_momenta(np.asarray(state.momentum))
    run = run_jax_md(potential, step, state, steps=200, every=200)
    atoms.calc = calculator(thing)
    VelocityVerlet(atoms, dt, logfile=None).run(200)
    x = run.state.position @ potential.box.T if fractional else run.state.position
    np.testing.assert_allclose(x, atoms.positions, rtol=1e-10)
    np.testing.assert_allclose(run.state.momentum, atoms.get_momenta(), atol=1e-10)
    np.testing.assert_array_equal(run.frames[-1], run.state.position)


def test_lists_that_overflow_are_mended_and_change_nothing(x64):
    """Atoms that begin far apart and fly towards each other."""
    atoms = free()
    atoms.positions *= 2
    runs = []
    for capacity in (1.0, 30.0):
        potential, step, state = start(atoms, thing=model(), skin=0.3, capacity=capacity)
        inwards = state.position.mean(0, keepdims=True) - state.position
        state = state.set(momentum=0.1 * state.mass * inwards)
        runs.append(run_jax_md(potential, step, state, steps=150, every=50))
    short, ample = runs
    assert short.allocations > 0 == ample.allocations
    assert len(short.neighbor.senders) < len(ample.neighbor.senders)
    np.testing.assert_allclose(short.frames, ample.frames, rtol=1e-10)
    np.testing.assert_allclose(short.state.momentum, ample.state.momentum, atol=1e-10)
    # Without mending, such a list gives no numbers at all rather than wrong ones
    potential, step, state = start(atoms, thing=model(), skin=0.3, capacity=1.0)
    state = state.set(momentum=0.1 * state.mass * inwards)
    neighbor = potential.neighbor_fn.allocate(state.position)
    update = jax.jit(potential.neighbor_fn.update)
    with jax.debug_nans(False):
        for _ in range(150):
            neighbor = update(state.position, neighbor)
            state = step(state, neighbor=neighbor)
        assert neighbor.did_buffer_overflow and np.isnan(state.position).any()


@pytest.mark.slow
def test_a_cell_that_shrinks_gets_another_grid(x64):
    """Pressed from far above its size, it ends at the volume where pressures are equal."""
    atoms = crystal() * (2, 2, 2)
    atoms.set_cell(atoms.cell * 1.1, scale_atoms=True)
    potential = jax_md_potential(springs(), atoms, fractional=True, skin=0.2)
    pressure = 20 * PRESSURE["GPa"]
    init, step = simulate.npt_nose_hoover(
        potential.energy_fn, potential.shift_fn, 2 * FEMTOSECOND, pressure, 20 * KELVIN
    )
    neighbor = potential.neighbor_fn.allocate(potential.position)
    mass = potential.mass
    state = jax.jit(init)(KEY, potential.position, potential.box, mass=mass, neighbor=neighbor)
    run = run_jax_md(
        potential, step, state, steps=300, every=20, observe=lambda state: state.box[0, 0]
    )
    assert run.allocations > 0
    assert neighbor.search.grid != run.neighbor.search.grid
    assert run.frames.min() < 0.93 * potential.box[0, 0] and np.isfinite(run.frames).all()
    there = crystal() * (2, 2, 2)
    there.set_cell(np.asarray(run.state.box).T)
    there.set_scaled_positions(np.asarray(run.state.position))
    there.calc = calculator(springs())
    inside = jax.jit(partial(quantity.pressure, potential.energy_fn))(
        run.state.position, run.state.box, neighbor=run.neighbor
    )
    ours = -np.trace(there.get_stress(voigt=False)) / 3
    assert float(inside) == pytest.approx(ours, rel=1e-9)


@pytest.mark.slow
def test_a_thermostat_reaches_its_temperature(x64):
    potential = jax_md_potential(springs(), crystal() * (2, 1, 1), skin=0.3)
    init, step = simulate.nvt_langevin(
        potential.energy_fn, potential.shift_fn, 3 * FEMTOSECOND, 100 * KELVIN, gamma=0.2
    )
    neighbor = potential.neighbor_fn.allocate(potential.position)
    state = init(KEY, potential.position, mass=potential.mass, neighbor=neighbor)
    heat = lambda state: quantity.temperature(momentum=state.momentum, mass=state.mass)
    run = run_jax_md(potential, step, state, steps=1500, every=5, observe=heat)
    assert run.frames[60:].mean() / KELVIN == pytest.approx(100, rel=0.15)


@pytest.mark.slow
def test_a_minimizer_finds_the_minimum(x64):
    atoms = crystal()
    atoms.rattle(0.08, seed=0)
    potential = jax_md_potential(springs(), atoms, skin=0.3)
    init, step = minimize.fire_descent(potential.energy_fn, potential.shift_fn, 0.1)
    neighbor = potential.neighbor_fn.allocate(potential.position)
    run = run_jax_md(potential, step, init(potential.position, neighbor=neighbor), steps=300)
    assert run.frames.shape == (3, 4, 3)
    assert float(jnp.abs(run.state.force).max()) < 1e-5


def test_a_run_that_goes_on_is_the_whole_run(x64):
    potential, step, state = start(crystal(), skin=0.3)
    whole = run_jax_md(potential, step, state, steps=50, every=20)
    assert whole.frames.shape == (2, 4, 3)
    first = run_jax_md(potential, step, state, steps=30, every=20)
    last = run_jax_md(potential, step, first.state, steps=20, every=20, neighbor=first.neighbor)
    np.testing.assert_allclose(last.state.position, whole.state.position, rtol=1e-12)


def test_what_no_list_can_mend_is_an_error(x64):
    potential, step, state = start(crystal(), dt=60.0, temperature=3000.0, skin=0.1)
    with pytest.raises(RuntimeError, match=r"must outlast a step; step 1 takes .* Å of its skin"):
        run_jax_md(potential, step, state, steps=10)
    potential, step, state = start(crystal(), skin=0.3)

    def broken(state, neighbor):
        state = step(state, neighbor=neighbor)
        return state.set(momentum=state.momentum * jnp.where(state.momentum[0, 0] > 0, 1, jnp.nan))

    with pytest.raises(FloatingPointError, match="step 1 leads to others|leads to others"):
        run_jax_md(potential, broken, state, steps=200)
    with jax.debug_nans(False), pytest.raises(ValueError, match="numbers are finite"):
        lost = state.set(position=state.position.at[0, 0].set(jnp.nan))
        run_jax_md(potential, step, lost, steps=1)
    with pytest.raises(ValueError, match="steps and every are 1 or more"):
        run_jax_md(potential, step, state, steps=0)
    with pytest.raises(ValueError, match="a state of jax-md has positions; got float"):
        run_jax_md(potential, step, 1.0, steps=1)
