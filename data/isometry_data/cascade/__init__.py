"""A signalling cascade of our own, E → L → receptor → S → G, simulated and solved exactly: known information.

At one instant a later stage may know more than an earlier one: G averages S over time, so that I(L; G) > I(L; S) is no
contradiction. The data-processing inequality binds whole trajectories: I(L; path of G) ≤ I(L; path of S), and with them
every instant of G.
"""
