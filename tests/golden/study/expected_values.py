"""The expected numbers of the tests in src/study/statistics.rs, worked out by other means.

    python3 -m pip install scipy && python3 tests/golden/study/expected_values.py
"""

from fractions import Fraction
from math import comb, sqrt
from statistics import mean, variance

from scipy import stats

pairs = [(0.71, 0.66), (0.68, 0.65), (0.74, 0.67)]
ours, theirs = zip(*pairs)
print("paired interval", *stats.ttest_rel(ours, theirs).confidence_interval(0.95))

print("t quantiles", *(stats.t.ppf(0.975, free) for free in (1, 2, 3.5, 9)))

strata = [[0.05, 0.03, 0.07], [0.02, 0.10, 0.06], [-0.01, 0.01, 0.00]]
errors = [variance(values) / len(values) / len(strata) ** 2 for values in strata]
free = sum(errors) ** 2 / sum(error**2 / (len(values) - 1) for error, values in zip(errors, strata))
half = stats.t.ppf(0.975, free) * sqrt(sum(errors))
centre = mean(map(mean, strata))
print("stratified", centre, centre - half, centre + half, "with", free, "degrees of freedom")

for n, c, k in [(4, 2, 2), (64, 1, 32), (64, 5, 16), (64, 3, 60), (2000, 7, 500)]:
    print(f"pass@{k} of {c} in {n}", float(1 - Fraction(comb(n - c, k), comb(n, k))))
