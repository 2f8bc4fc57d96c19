"""What ``mlpapers new`` writes: a small paper that runs, to be replaced piece by piece with another one.

The templates hold a complete example, the leave-one-out residuals of ridge regression, with an estimator, a
result, a claim, tests, a page and an example script. They are rendered for a checkout of the library or as a
distribution of its own.
"""
