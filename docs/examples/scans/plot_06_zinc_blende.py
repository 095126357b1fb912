"""
Zinc blende along [110], and WS2
================================

Two columns of atoms make a dumbbell in zinc blende along [110]. In ZnS they differ in element, zinc and sulphur, in
GaAs hardly: gallium and arsenic are two apart in the periodic table. A rotation by 180° about the middle of the
dumbbell would exchange the two columns: it is no symmetry of either crystal, but nearly one of GaAs. Which maps show
that?
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.ndimage import map_coordinates

import stemvane as sv

SCAN = {"scan_shape": (40, 40), "scan_extent": (8.0, 8.0), "detector_shape": (48, 48), "detector_outer": 48.0}


def analyse(structure, **shape):
    """Measure a simulated scan and learn an angle and two latents."""
    scan = sv.simulate(structure=structure, **shape, **SCAN)
    print(f"{structure}: {scan.metadata['method']}; {scan.metadata['method_reason']}")
    measured = sv.measure(scan)
    return scan, measured, sv.RotationVAE(n_latent=2).fit(measured).embed(measured)


scan, measured, zns = analyse("ZnS", zone_axis=(1, 1, 0), thickness=20.0)
zns.plot()
plt.show()

# %%
# The angle runs around each column, and the first latent follows the length of the deflection. The second one is higher
# at zinc than at sulphur. Beside it the deflection, whose direction is that of the angle:

fig, ax = plt.subplots(figsize=(4.6, 4), layout="constrained")
measured.plot("com", ax=ax)
plt.show()

# %%
# Gallium arsenide, as thick and in the same direction.

gaas_scan, gaas_measured, gaas = analyse("GaAs", zone_axis=(1, 1, 0), thickness=20.0)
gaas.plot()
plt.show()


# %%
# How much of a map within 2 Å of a dumbbell's middle changes its sign under the rotation by 180°: none where that is a
# symmetry, half where both sides have nothing to do with each other.


def odd_share(values, scan):
    """Share of the variance that a rotation by 180° about the middle of two neighbouring atoms reverses."""
    atoms, numbers = scan.atoms.positions, scan.atoms.numbers
    one = atoms[numbers == numbers.min()]
    one = one[np.linalg.norm(one - 4.0, axis=1).argmin()]
    other = atoms[numbers == numbers.max()]
    middle = (one + other[np.linalg.norm(other - one, axis=1).argmin()]) / 2
    offsets = np.stack(np.meshgrid(*2 * [np.arange(-2, 2.01, 0.1)], indexing="ij")).reshape(2, -1)
    offsets = offsets[:, np.hypot(*offsets) < 2]
    step = scan.calibration.scan_step[0]
    here, there = (map_coordinates(values, (middle[:, None] + s * offsets) / step, order=3) for s in (1, -1))
    return ((here - there) ** 2).mean() / 4 / here.var()


def compare_maps(scan, measured, embedding):
    """Print the share of each map."""
    for label, values in (
        ("length of the COM", measured.com_magnitude),
        ("first latent", embedding.latents[..., 0]),
        ("second latent", embedding.latents[..., 1]),
        ("annular dark field", measured.maps["annular_dark_field"]),
    ):
        print(f"  {label:<20}{odd_share(values, scan):6.1%}")


for name, result in (("ZnS", (scan, measured, zns)), ("GaAs", (gaas_scan, gaas_measured, gaas))):
    print(name)
    compare_maps(*result)

# %%
# In ZnS the length of the COM hardly tells the two columns apart; the second latent does, and so does the dark field,
# which counts what is scattered far. In GaAs all of them find the rotation nearly a symmetry. The COM loses the element
# because it is small at every column, whatever that is made of.
#
# A single layer of WS2 has three-fold sites: tungsten, two sulphur atoms above one another, and the middle of the ring.
# Its sulphur planes are so far apart that the wave passes in several slices.

ws2_scan, ws2_measured, ws2 = analyse("WS2")
ws2.plot()
plt.show()

# %%
# The angle runs once through 360° around each of the three. A rotation by 180° about the middle of a bond, which would
# exchange tungsten and sulphur, is broken in the second latent.

compare_maps(ws2_scan, ws2_measured, ws2)
