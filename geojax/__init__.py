"""geojax."""
