"""The deflection of a noisy scan: ours beside every filter that a microscopist would write instead."""
