"""Between the policy that is simulated and what each venue can write: its own integers, rules and way of changing them.

One file per venue, each with one parameter set (`native.py` says what all of them can do), and `codecs.py` that lists them.
Everything here is exact: integers and fractions, never a float but at the two ends of the policy.
"""
