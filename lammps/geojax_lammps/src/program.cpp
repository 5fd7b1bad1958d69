// SPDX-License-Identifier: GPL-2.0-only

#include "program.h"

#include "tensorflow/c/c_api.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <stdexcept>

namespace geojax {

namespace {

constexpr double ROOM = 1.1;      // arrays are made for a tenth more than is needed,
constexpr size_t SPARE = 32;      // and for some rows besides,
constexpr double GROWTH = 1.5;    // grow by so much at least,
constexpr double WASTE = 3.0;     // and are made anew where they could be so much smaller

template <class T> using Owned = std::unique_ptr<T, void (*)(T *)>;

Owned<TF_Status> new_status()
{
  return {TF_NewStatus(), TF_DeleteStatus};
}

void check(const Owned<TF_Status> &status, const std::string &what)
{
  if (TF_GetCode(status.get()) != TF_OK)
    throw std::runtime_error(what + " failed in TensorFlow: " + TF_Message(status.get()));
}

size_t with_room(size_t needed)
{
  return size_t(ROOM * double(needed)) + SPARE;
}

bool fits(size_t needed, size_t rows)
{
  return needed <= rows && double(rows) <= WASTE * double(with_room(needed));
}

// How many rows an array has that had so many before.
size_t resized(size_t needed, size_t before)
{
  const size_t wanted = with_room(needed);
  if (needed > before) return std::max(wanted, size_t(GROWTH * double(before)));
  return fits(needed, before) ? std::max(wanted, before) : wanted;
}

template <class To, class From>
Owned<TF_Tensor> tensor(TF_DataType type, const std::vector<From> &values,
                        const std::vector<int64_t> &shape, From rest)
{
  size_t count = 1;
  for (const int64_t size : shape) count *= size_t(size);
  Owned<TF_Tensor> made{
      TF_AllocateTensor(type, shape.data(), int(shape.size()), count * sizeof(To)),
      TF_DeleteTensor};
  if (!made) throw std::runtime_error("no memory is left for the model's inputs");
  To *data = static_cast<To *>(TF_TensorData(made.get()));
  std::transform(values.begin(), values.end(), data, [](From value) { return To(value); });
  std::fill(data + values.size(), data + count, To(rest));
  return made;
}

// A ConfigProto that sets intra_op_parallelism_threads (field 2) and inter_op (field 5).
std::vector<unsigned char> config(int threads)
{
  const auto n = (unsigned char) std::min(std::max(threads, 1), 127);
  return {0x10, n, 0x28, n};
}

}    // namespace

Program::Program(const ModelFile &model, int threads) :
    graph(TF_NewGraph()), doubles(model.dtype == "float64")
{
  const auto status = new_status();
  const Owned<TF_SessionOptions> options{TF_NewSessionOptions(), TF_DeleteSessionOptions};
  const auto proto = config(threads);
  TF_SetConfig(options.get(), proto.data(), proto.size(), status.get());
  check(status, "the number of threads");
  const char *tags[] = {"serve"};
  const std::string folder = model.folder + "/saved_model";
  session = TF_LoadSessionFromSavedModel(options.get(), nullptr, folder.c_str(), tags, 1, graph,
                                         nullptr, status.get());
  if (TF_GetCode(status.get()) != TF_OK) TF_DeleteGraph(graph);
  check(status, "loading " + folder);
  for (const char *name : {"species", "vectors", "senders", "receivers", "counts"})
    inputs.push_back(port(model, name));
  for (const char *name : {"energies", "gradient"}) outputs.push_back(port(model, name));
}

Program::~Program()
{
  const auto status = new_status();
  TF_CloseSession(session, status.get());
  TF_DeleteSession(session, status.get());
  TF_DeleteGraph(graph);
}

Program::Port Program::port(const ModelFile &model, const std::string &name) const
{
  const auto found = model.tensors.find(name);
  const std::string place = found == model.tensors.end() ? "" : found->second;
  const size_t colon = place.rfind(':');
  if (colon != std::string::npos) {
    TF_Operation *operation = TF_GraphOperationByName(graph, place.substr(0, colon).c_str());
    if (operation) return {operation, std::atoi(place.c_str() + colon + 1)};
  }
  throw std::runtime_error("the program in " + model.folder + " has no tensor '" + name +
                           "'; convert the model again");
}

std::vector<double> Program::numbers(TF_Tensor *values, size_t count, const std::string &what) const
{
  const size_t size = doubles ? sizeof(double) : sizeof(float);
  if (TF_TensorType(values) != (doubles ? TF_DOUBLE : TF_FLOAT) ||
      TF_TensorByteSize(values) < count * size)
    throw std::runtime_error("the program returned " + what + " of another type or size");
  const void *data = TF_TensorData(values);
  const auto *wide = static_cast<const double *>(data);
  const auto *narrow = static_cast<const float *>(data);
  if (doubles) return {wide, wide + count};
  return {narrow, narrow + count};
}

void Program::run(const Neighborhood &given, std::vector<double> &energies,
                  std::vector<double> &gradient)
{
  const size_t n = given.species.size(), e = given.senders.size();
  const size_t rows = n + 1;    // padding edges join a padding atom to itself
  if (!fits(rows, nodes) || !fits(e, edges)) {
    nodes = resized(rows, nodes);    // both at once, so that one compilation serves both
    edges = resized(e, edges);
  }
  shapes.insert({nodes, edges});

  const auto rest = int32_t(n), none = int32_t(0);
  const auto N = int64_t(nodes), E = int64_t(edges);
  const std::vector<int32_t> counts = {int32_t(given.locals), int32_t(n), int32_t(e)};
  const auto species = tensor<int32_t>(TF_INT32, given.species, {N}, none);
  const auto vectors = doubles ? tensor<double>(TF_DOUBLE, given.vectors, {E, 3}, 0.0)
                               : tensor<float>(TF_FLOAT, given.vectors, {E, 3}, 0.0);
  const auto senders = tensor<int32_t>(TF_INT32, given.senders, {E}, rest);
  const auto receivers = tensor<int32_t>(TF_INT32, given.receivers, {E}, rest);
  const auto sizes = tensor<int32_t>(TF_INT32, counts, {3}, none);

  TF_Output from[5], to[2];
  for (int i = 0; i < 5; i++) from[i] = {inputs[i].operation, inputs[i].index};
  for (int i = 0; i < 2; i++) to[i] = {outputs[i].operation, outputs[i].index};
  TF_Tensor *const values[] = {species.get(), vectors.get(), senders.get(), receivers.get(),
                               sizes.get()};
  TF_Tensor *found[] = {nullptr, nullptr};
  const auto status = new_status();
  TF_SessionRun(session, nullptr, from, values, 5, to, found, 2, nullptr, 0, nullptr,
                status.get());
  const Owned<TF_Tensor> first{found[0], TF_DeleteTensor}, second{found[1], TF_DeleteTensor};
  check(status, "the model");
  energies = numbers(first.get(), size_t(given.locals), "energies");
  gradient = numbers(second.get(), 3 * e, "a gradient");
}

}    // namespace geojax
