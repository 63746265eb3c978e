"""Which intervals are told everywhere: those that hold the truth in four of five cases."""

COVERAGE = 0.8
Z_80 = 1.28  # half-width of the central 80 % of a normal distribution, in standard deviations
