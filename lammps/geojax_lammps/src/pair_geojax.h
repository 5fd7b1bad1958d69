// SPDX-License-Identifier: GPL-2.0-only

// LAMMPS pair style of a geojax model.
//
//   plugin load geojaxplugin.so
//   pair_style geojax [ghosts yes/no]
//   pair_coeff * * FOLDER Si O ...

#ifndef LMP_PAIR_GEOJAX_H
#define LMP_PAIR_GEOJAX_H

#include "model_file.h"
#include "pair.h"
#include "program.h"

#include <memory>
#include <vector>

namespace LAMMPS_NS {

class PairGeojax : public Pair {
 public:
  PairGeojax(class LAMMPS *);
  ~PairGeojax() override;

  void compute(int, int) override;
  void settings(int, char **) override;
  void coeff(int, char **) override;
  void init_style() override;
  double init_one(int, int) override;
  void finish() override;
  double memory_usage() override;

 private:
  void allocate();
  double shell() const;    // [A] around a rank's atoms that has to be known
  void check_lists();
  void find_images();
  void gather();
  void add_edges(int receiver, int atom);
  void scatter();
  [[noreturn]] void refuse_number(int atom, const std::string &what);

  geojax::ModelFile model;
  std::unique_ptr<geojax::Program> program;
  std::vector<geojax::Element> elements;    // by type, from type 1 on at place 0
  bool ghosts = false;                      // every image is an atom of its own, for comparison
  bool shelled = false;                     // some atoms around the rank's are ghosts

  geojax::Neighborhood around;
  std::vector<int> images;          // of atoms and ghosts: the image that stands for them
  std::vector<int> atoms;           // of each row of `around`: the local atom or ghost
  std::vector<int> hops;            // of each row: how far from a local atom
  std::vector<int> row_of_image;    // or -1
  std::vector<int> far_ends;        // of each edge: the local atom or ghost that it begins at
  std::vector<double> energies, gradient;
};

}    // namespace LAMMPS_NS

#endif
