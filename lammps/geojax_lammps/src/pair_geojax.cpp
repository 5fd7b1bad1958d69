// SPDX-License-Identifier: GPL-2.0-only

// An atom's energy depends on the atoms that are at most `hops` edges away. Rows of arrays are those
// atoms, the rank's own first. Periodic images of an atom are one row, whichever of them is met
// first, since they get the same messages; so on one rank all rows are the rank's atoms. On several
// ranks the others are ghosts in a shell of hops x cutoff around the rank; messages to them are
// computed on each rank that needs them. What is summed are the energies of the rank's atoms, and
// forces on ghosts go home by LAMMPS' reverse communication.
//
// Edge vectors are differences of positions in double precision, and forces and the virial sums in
// double precision over the derivatives by them: F_i = -sum_e dE/dr_e dr_e/dx_i and
// W = -sum_e r_e (x) dE/dr_e.

#include "pair_geojax.h"

#include "atom.h"
#include "comm.h"
#include "domain.h"
#include "error.h"
#include "force.h"
#include "memory.h"
#include "neigh_list.h"
#include "neighbor.h"
#include "update.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <unordered_map>

using namespace LAMMPS_NS;

PairGeojax::PairGeojax(LAMMPS *lmp) : Pair(lmp)
{
  single_enable = 0;
  restartinfo = 0;
  one_coeff = 1;
  manybody_flag = 1;
  no_virial_fdotr_compute = 1;
  centroidstressflag = CENTROID_NOTAVAIL;
}

PairGeojax::~PairGeojax()
{
  if (!allocated) return;
  memory->destroy(setflag);
  memory->destroy(cutsq);
  memory->destroy(cutghost);
}

void PairGeojax::allocate()
{
  allocated = 1;
  const int n = atom->ntypes + 1;
  memory->create(setflag, n, n, "pair:setflag");
  memory->create(cutsq, n, n, "pair:cutsq");
  memory->create(cutghost, n, n, "pair:cutghost");
}

void PairGeojax::settings(int narg, char **arg)
{
  ghosts = false;
  if (narg == 2 && !strcmp(arg[0], "ghosts") && (!strcmp(arg[1], "yes") || !strcmp(arg[1], "no")))
    ghosts = !strcmp(arg[1], "yes");
  else if (narg != 0)
    error->all(FLERR, std::string("pair_style geojax takes nothing, or 'ghosts yes' or 'ghosts "
                                  "no'; got other words; take them out"));
}

void PairGeojax::coeff(int narg, char **arg)
{
  const int types = atom->ntypes;
  if (narg != 3 + types || strcmp(arg[0], "*") != 0 || strcmp(arg[1], "*") != 0)
    error->all(FLERR, "pair_coeff has * *, the folder of a model, and an element for each of the " +
                          std::to_string(types) + " atom types; got " + std::to_string(narg) +
                          " words; write, say, pair_coeff * * model Si O");
  if (!allocated) allocate();
  try {
    model = geojax::read_model(arg[2]);
    program.reset();
    program = std::make_unique<geojax::Program>(model, comm->nthreads);
  } catch (const std::exception &problem) {
    error->all(FLERR, std::string(problem.what()));
  }
  elements.clear();
  for (int type = 1; type <= types; type++) {
    const std::string symbol = arg[2 + type];
    const auto found = model.elements.find(symbol);
    if (found == model.elements.end()) {
      std::string known;
      for (const auto &element : model.elements) known += " " + element.first;
      error->all(FLERR, "atoms are of elements that the model knows," + known + "; got '" +
                            symbol + "' for type " + std::to_string(type));
    }
    elements.push_back(found->second);
  }
  for (int i = 1; i <= types; i++)
    for (int j = i; j <= types; j++) setflag[i][j] = 1;
}

double PairGeojax::shell() const
{
  return model.hops * model.cutoff + neighbor->skin;
}

void PairGeojax::init_style()
{
  if (strcmp(update->unit_style, "metal") != 0)
    error->all(FLERR, std::string("units are metal; got ") + update->unit_style +
                          "; write 'units metal' in the input");
  if (!force->newton_pair)
    error->all(FLERR, std::string("a model needs newton on for pairs; got off; write 'newton on'"));
  if (domain->dimension != 3)
    error->all(FLERR, std::string("atoms move in three dimensions; got 2; write 'dimension 3'"));
  if (!atom->tag_enable)
    error->all(FLERR, std::string("atoms have IDs; got none; write 'atom_modify id yes'"));
  if (atom->molecular != Atom::ATOMIC)
    for (int i = 1; i <= 3; i++)
      if (force->special_lj[i] != 1.0)
        error->all(FLERR, std::string("a model sees bonded atoms as all others; got special_bonds "
                                      "below 1; write 'special_bonds lj 1 1 1'"));
  if (!neighbor->dist_check && (neighbor->every > 1 || neighbor->delay > 0))
    error->all(FLERR, std::string("neighbor lists are made anew in time; got neigh_modify check "
                                  "no; write 'neigh_modify check yes'"));
  if (comm->mode != Comm::SINGLE)
    error->all(FLERR, std::string("there is one ghost cutoff; got comm_modify mode multi; write "
                                  "'comm_modify mode single'"));

  shelled = comm->nprocs > 1 || ghosts;
  ghostneigh = shelled ? 1 : 0;
  int flags = NeighConst::REQ_FULL;
  if (shelled) {
    flags |= NeighConst::REQ_GHOST;
    comm->cutghostuser = std::max(comm->cutghostuser, shell());
  }
  neighbor->add_request(this, flags);
  images.clear();
}

double PairGeojax::init_one(int i, int j)
{
  if (!setflag[i][j])
    error->all(FLERR, std::string("all types have an element; write pair_coeff * * first"));
  cutghost[i][j] = cutghost[j][i] = model.cutoff;
  return model.cutoff;
}

void PairGeojax::compute(int eflag, int vflag)
{
  ev_init(eflag, vflag);
  if (vflag_atom)
    error->all(FLERR, std::string("a model's virial is that of all atoms; got a compute of stress "
                                  "per atom; use compute pressure"));
  check_lists();
  around.clear();
  atoms.clear();
  far_ends.clear();
  gather();
  if (atom->nlocal == 0) return;
  around.locals = atom->nlocal;
  for (const int i : atoms) around.species.push_back(elements[atom->type[i] - 1].number);
  try {
    program->run(around, energies, gradient);
  } catch (const std::exception &problem) {
    error->one(FLERR, std::string(problem.what()));
  }
  scatter();
}

void PairGeojax::check_lists()
{
  if (neighbor->exclude)
    error->all(FLERR, std::string("a model sees all atoms; got neigh_modify exclude; take it out"));
  // With a check at every step, a build that LAMMPS counts as dangerous comes before the forces.
  if (neighbor->ndanger > 0 && std::max(neighbor->every, neighbor->delay) > 1)
    error->all(FLERR, std::string("atoms moved more than half the skin before the neighbor list "
                                  "was made anew; write 'neigh_modify every 1 delay 0 check yes', "
                                  "or a larger skin"));
  if (shelled && comm->get_comm_cutoff() < shell())
    error->all(FLERR, "ghosts reach " + std::to_string(model.hops) + " x cutoff + skin; got " +
                          std::to_string(comm->get_comm_cutoff()) + "; write 'comm_modify cutoff " +
                          std::to_string(shell()) + "' or more");
}

// The first of all images of each atom, which stands for them.
void PairGeojax::find_images()
{
  const int all = atom->nlocal + atom->nghost;
  std::unordered_map<tagint, int> first;
  images.resize(all);
  for (int i = 0; i < all; i++)
    images[i] = ghosts ? i : first.try_emplace(atom->tag[i], i).first->second;
}

// The rank's atoms, then others in the order of their distance in edges.
void PairGeojax::gather()
{
  const int all = atom->nlocal + atom->nghost;
  if (neighbor->ago == 0 || int(images.size()) != all) find_images();
  row_of_image.assign(all, -1);
  hops.assign(atom->nlocal, 0);
  for (int i = 0; i < atom->nlocal; i++) {
    atoms.push_back(i);
    row_of_image[i] = i;
  }
  for (size_t row = 0; row < atoms.size(); row++) {
    if (hops[row] == model.hops) break;    // messages to these reach none of the rank's atoms
    const size_t first = far_ends.size();
    add_edges(int(row), atoms[row]);
    for (size_t edge = first; edge < far_ends.size(); edge++) {
      int &sender = row_of_image[images[far_ends[edge]]];
      if (sender < 0) {
        sender = int(atoms.size());
        atoms.push_back(far_ends[edge]);    // near enough that its own edges are known
        hops.push_back(hops[row] + 1);
      }
      around.senders.push_back(sender);
    }
  }
}

// The edges that end at an atom, all but their senders.
void PairGeojax::add_edges(int receiver, int i)
{
  double **x = atom->x;
  const int *neighbors = list->firstneigh[i];
  for (int k = 0; k < list->numneigh[i]; k++) {
    const int j = neighbors[k] & NEIGHMASK;
    const double r[3] = {x[i][0] - x[j][0], x[i][1] - x[j][1], x[i][2] - x[j][2]};
    const double square = r[0] * r[0] + r[1] * r[1] + r[2] * r[2];
    if (!std::isfinite(square)) refuse_number(i, "a position");
    if (square > model.cutoff * model.cutoff) continue;
    around.receivers.push_back(receiver);
    around.vectors.insert(around.vectors.end(), r, r + 3);
    far_ends.push_back(j);
  }
}

// Energies, forces and the virial from what the program returned.
void PairGeojax::scatter()
{
  double **f = atom->f;
  for (int i = 0; i < atom->nlocal; i++) {
    if (!std::isfinite(energies[i])) refuse_number(i, "an energy");
    const double energy = energies[i] + elements[atom->type[i] - 1].reference;
    if (eflag_global) eng_vdwl += energy;
    if (eflag_atom) eatom[i] += energy;
  }
  double w[3][3] = {};
  for (size_t edge = 0; edge < far_ends.size(); edge++) {
    const double *g = &gradient[3 * edge], *r = &around.vectors[3 * edge];
    const int to = atoms[around.receivers[edge]], from = atoms[around.senders[edge]];
    if (!std::isfinite(g[0] + g[1] + g[2])) refuse_number(to, "a force");
    for (int a = 0; a < 3; a++) {
      f[to][a] -= g[a];
      f[from][a] += g[a];
      for (int b = 0; b < 3; b++) w[a][b] -= r[a] * g[b];
    }
  }
  if (!vflag_global) return;
  static constexpr int VOIGT[6][2] = {{0, 0}, {1, 1}, {2, 2}, {0, 1}, {0, 2}, {1, 2}};
  for (int k = 0; k < 6; k++) {
    const int a = VOIGT[k][0], b = VOIGT[k][1];
    virial[k] += 0.5 * (w[a][b] + w[b][a]);
  }
}

void PairGeojax::refuse_number(int i, const std::string &what)
{
  error->one(FLERR, what + " is finite; that of atom " + std::to_string(atom->tag[i]) +
                        " is not at step " + std::to_string(update->ntimestep) +
                        "; begin from a sound structure, or with a smaller time step");
}

void PairGeojax::finish()
{
  int mine[3] = {program->compilations(), int(around.species.size()), int(around.senders.size())};
  int most[3];
  MPI_Allreduce(mine, most, 3, MPI_INT, MPI_MAX, world);
  utils::logmesg(lmp, "geojax: " + std::to_string(most[0]) +
                          " shapes compiled; the largest rank has " + std::to_string(most[1]) +
                          " atoms and " + std::to_string(most[2]) + " edges\n");
}

double PairGeojax::memory_usage()
{
  return Pair::memory_usage() + 8.0 * (around.vectors.capacity() + gradient.capacity());
}
