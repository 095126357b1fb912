"""From deflections to projected electric field and projected potential."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemvane.errors import CalibrationError

__all__ = ["momentum_velocity", "projected_field", "projected_potential"]

_Floats = NDArray[np.floating[Any]]

_REST_ENERGY = 510998.95
"""m c² of the electron in eV, CODATA 2018."""


def momentum_velocity(energy: float) -> float:
    """Momentum times velocity of the beam's electrons, relativistic.

    Parameters
    ----------
    energy : float
        Kinetic energy E of the beam in eV.

    Returns
    -------
    float
        ``p v = (E² + 2 E m c²) / (E + m c²)`` in eV; 113 695 eV at 60 keV.

    Raises
    ------
    CalibrationError
        If the energy is not positive.

    Notes
    -----
    From ``(p c)² = E² + 2 E m c²`` and ``v = p c² / (E + m c²)``.
    """
    if not energy > 0:
        raise CalibrationError(f"the beam energy is {energy} eV; it must be positive, for example 60e3 for 60 keV")
    return (energy**2 + 2 * energy * _REST_ENERGY) / (energy + _REST_ENERGY)


def projected_field(deflection: _Floats, energy: float) -> NDArray[np.float64]:
    """Electric field integrated along the beam, from the deflection.

    Parameters
    ----------
    deflection : ndarray of float, shape (..., 2)
        Deflection of the COM ``(y, x)`` in mrad, in the frame of the scan.
    energy : float
        Beam energy in eV.

    Returns
    -------
    ndarray of float, shape (..., 2)
        ``E·t = −θ p v / e`` in V, ``(y, x)``: away from the nuclei, where the deflection of the electrons is towards
        them. Divided by the thickness in Å it is the mean field in V/Å.

    Raises
    ------
    CalibrationError
        If the energy is not positive.

    Notes
    -----
    The COM is the mean momentum that the field gives to the electrons (Müller et al., Nature Communications 5, 5653
    (2014)). Four limits:

    - It is the field under the probe: the projected field convolved with the probe's intensity (Müller-Caspary et al.,
      Ultramicroscopy 178, 62 (2017)), so that atomic fields come out weaker and wider than they are.
    - It holds for a phase object. In a specimen so thick that the probe spreads or channels on its way, the COM is no
      longer linear in the field; at atomic resolution that begins at some nanometres.
    - Electrons beyond the detector's edge are missing from the COM.
    - A deflection without a field, from descan or from a tilted or bent edge of the specimen, is taken for a field.
    """
    return np.asarray(-1e-3 * momentum_velocity(energy) * np.asarray(deflection, np.float64))


def projected_potential(integrated_com: _Floats, energy: float) -> NDArray[np.float64]:
    """Electrostatic potential integrated along the beam, from the integrated COM.

    Parameters
    ----------
    integrated_com : ndarray of float, shape (scan_y, scan_x)
        Scalar map whose gradient is the deflection in the frame of the scan, in mrad·Å, from `integrate`.
    energy : float
        Beam energy in eV.

    Returns
    -------
    ndarray of float, shape (scan_y, scan_x)
        Potential in V·Å, positive at nuclei, up to a constant, which a deflection does not determine.

    Raises
    ------
    CalibrationError
        If the energy is not positive.

    Notes
    -----
    ``E·t = −∇V`` and ``θ = −E·t e / p v``, so ``V = (p v / e) ∫θ``. As `projected_field`: blurred by the probe's
    intensity, and for phase objects only.
    """
    return np.asarray(1e-3 * momentum_velocity(energy) * np.asarray(integrated_com, np.float64))
