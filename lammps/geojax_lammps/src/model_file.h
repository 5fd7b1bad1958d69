// SPDX-License-Identifier: GPL-2.0-only

// What `geojax_lammps.convert` wrote beside the program: a text of one fact per line.

#ifndef GEOJAX_MODEL_FILE_H
#define GEOJAX_MODEL_FILE_H

#include <map>
#include <string>

namespace geojax {

struct Element {
  int number;          // atomic number
  double reference;    // energy [eV] of the isolated atom
};

struct ModelFile {
  std::string folder, name, dtype;              // dtype: "float32" or "float64"
  double cutoff = 0.0;                          // [A]
  int hops = 0;                                 // edges that an atom's energy can look far
  std::map<std::string, Element> elements;      // by symbol
  std::map<std::string, std::string> tensors;   // of the program: name -> operation:index
};

// Reads and checks a folder: its text, and the size and SHA-256 of every file that the text names.
// Throws std::runtime_error.
ModelFile read_model(const std::string &folder);

}    // namespace geojax

#endif
