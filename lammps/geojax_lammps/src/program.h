// SPDX-License-Identifier: GPL-2.0-only

// The model's compiled function, reached through the C API of TensorFlow.

#ifndef GEOJAX_PROGRAM_H
#define GEOJAX_PROGRAM_H

#include "model_file.h"

#include <cstddef>
#include <cstdint>
#include <set>
#include <utility>
#include <vector>

struct TF_Graph;
struct TF_Session;
struct TF_Operation;
struct TF_Tensor;

namespace geojax {

// Atoms and directed edges; local atoms come first, edges are sorted by receiver.
struct Neighborhood {
  std::vector<int32_t> species;               // atomic numbers
  std::vector<int32_t> senders, receivers;    // rows of species
  std::vector<double> vectors;                // [edge, 3] [A], from sender to receiver
  int locals = 0;

  void clear()
  {
    for (auto *part : {&species, &senders, &receivers}) part->clear();
    vectors.clear();
  }
};

class Program {
 public:
  // threads: of one evaluation. Throws std::runtime_error, as `run` does.
  Program(const ModelFile &, int threads);
  ~Program();
  Program(const Program &) = delete;
  Program &operator=(const Program &) = delete;

  // Energies [eV] of local atoms without E0s, and the derivative of their sum by every edge's
  // vector [eV/A]. Arrays are padded: a shape that was not met before is compiled.
  void run(const Neighborhood &, std::vector<double> &energies, std::vector<double> &gradient);

  int compilations() const { return int(shapes.size()); }

 private:
  struct Port {
    TF_Operation *operation;
    int index;
  };
  Port port(const ModelFile &, const std::string &name) const;
  std::vector<double> numbers(TF_Tensor *, size_t count, const std::string &what) const;

  TF_Graph *graph;
  TF_Session *session = nullptr;
  bool doubles;
  std::vector<Port> inputs, outputs;
  size_t nodes = 0, edges = 0;                    // rows of the padded arrays
  std::set<std::pair<size_t, size_t>> shapes;     // that were compiled
};

}    // namespace geojax

#endif
