"""Invented road scenes with real traffic signs: a stand-in for GTSRB where the real archives cannot be had.

``scenery`` paints what is behind a sign, ``surface`` ages a clean face, ``geometry`` tilts it, ``tracks`` lights and
photographs it while a car drives by, ``archives`` writes the official layout, ``sheet`` a picture of it all.
"""
