"""The evaluation of DensePose: the AP of the geodesic point similarity, GPS."""
