"""What every report says, whatever the run: statuses, assumptions, limits, method and sources.

Kept apart from the page so that it can be read, and corrected, as prose. It describes the model of `docs/rules.md`.
"""

from calibrate.weighing import FEWEST_PATHS, LARGEST_SHARE, MOST_ERRORS

BANNERS = {
    "certified": ("Certified: the recommended parameters meet every constraint on fresh simulated paths."),
    "not certified": (
        "Not certified: the best parameters found did not pass on fresh paths. Do not adopt them as they are."
    ),
    "infeasible": ("Infeasible: no parameters within the bounds meet every constraint. Nothing is recommended."),
}

TRADE_OFF = (
    "More leverage for users leaves less room to close a failing position before its collateral is used up, so "
    "insolvency becomes more likely. Each point of the line is the best set of parameters found for one tolerance, "
    "checked on fresh paths. A venue above the line could be safer at the same leverage, or offer more leverage at "
    "the same risk. The rows below show the parameters of each point. Points are measured on other paths than the "
    "tables, and where losses are rare each is drawn from where its own losses are: the numbers agree within their errors."
)

RESTS_ON = (
    "A few heavy paths can hide behind a small standard error. So it is checked what each estimate rests on, and a limit counts "
    f"as kept only if that is enough: at least {FEWEST_PATHS:g} paths, none of which makes up more than {100 * LARGEST_SHARE:g} %, "
    f"and no gap above {MOST_ERRORS:g} standard errors."
)

OTHER_AXES = (
    "This picture shows those points on other axes, as the job asked. The sweep was made for insolvency against leverage: "
    "its points need not be the best on these axes, and a point is called beaten by its leverage and insolvency all the same."
)

STANDINGS = (
    "How far each policy is from the line, measured as its points are: what the line offers at the same "
    "insolvency probability, and at the same leverage. Where the sweep of tolerances does not reach that far, nothing is "
    "said. The search may weigh what liquidated users pay against leverage: then a policy that costs them more can stand "
    "below the line. A point is called beaten when another one offers at least as much leverage and its whole error bar lies lower."
)

SCENARIOS = (
    "The same sweep in each of the job's scenarios by itself: what a venue could choose if it knew that this world were the "
    "true one. The policies are the same in every panel. Where a scenario moves a policy up, it is less safe there; how far it "
    "moves the line says what such a world costs whatever the parameters."
)

SCENARIOS_ON_AVERAGE = (
    "The tolerance holds on average over the scenarios, by their shares, and not in each of them; so no panel shows it."
)

LIMITS = (
    "Here is what could be gained by tolerating more. A limit that binds keeps the recommendation from being cheaper; easing "
    "one that does not bind buys nothing. What the search minimises is the margin, plus what liquidated users pay as far as "
    "the job counts it. The figures are those of small changes: for a doubling they are a guide."
)

ELASTICITIES = (
    "How strongly the result reacts to each number that went into it: a value of 2 says that +1 % in that "
    "number raises the result by 2 %. An assumption with a large value deserves the closest look."
)

OTHER_ELASTICITIES = (
    "The same for every figure, each with its standard error: here found by simulating the same paths once more with each "
    "number 5 % higher and 5 % lower."
)

FORCED = (
    "The column on the margin says what it would take to make up for a wrong assumption: if it were 10 % higher, by "
    "how much the margin would have to change for the limits to hold again, all other parameters as they are, on top of what "
    "the margin formula does by itself. Assumptions come first, those that would force the largest change at the top. The first "
    "figure is that of small changes; for those that would force most, the changed world was simulated and the margin found "
    "again, on fewer paths. Where the two differ by more than twice their errors, it is said: reckon with the larger."
)

ASSUMED = (
    "The price follows the market model of the job: volatility that wanders around a usual level, and sudden "
    "jumps. What the history behind that model does not contain, the simulation does not contain either.",
    "Open positions are those of the book in the job. Within the horizon nobody opens, tops up or reduces a position.",
    "Liquidations move the price against the venue. How far follows a square-root law of market impact, with a "
    "depth that the job ties to volatility; the displaced price recovers over time as the job says.",
    "The venue sees prices through its oracle, and keepers close accounts, with the delays and profit rules of "
    "the job.",
    "The insurance fund starts at the size given in the job and within the horizon earns liquidation penalties only.",
)

NOT_COVERED = (
    "Faults of software, attacks on governance, and manipulation of the oracle or of the market behind it.",
    "Other markets that draw on the same insurance fund, and a fall in the value of the collateral itself.",
    "Trading fees, funding payments, and automatic deleveraging.",
    "How users respond to the new parameters over the following weeks.",
    "Errors of the market model. The intervals on this page measure simulation error alone; the section on "
    "what the answer depends on shows how much a wrong assumption matters.",
)

METHOD = (
    "Whole price paths are simulated together with the oracle, the keepers, the accounts and the insurance "
    "fund. The same simulation yields the derivatives of its results with respect to the parameters, and an "
    "optimiser follows them to the parameters that need least margin while the constraints hold. The result is "
    "then checked on fresh paths."
)

SOURCES = (
    "Extremes of the price within a time step, by Brownian bridge: P. Glasserman, Monte Carlo Methods in "
    "Financial Engineering, Springer, 2004.",
    "Double-exponential jumps: S. G. Kou, A Jump-Diffusion Model for Option Pricing, Management Science 48, 2002.",
    "Pathwise derivatives: M. Broadie and P. Glasserman, Estimating Security Price Derivatives Using "
    "Simulation, Management Science 42, 1996.",
    "Exact limits for a probability: C. J. Clopper and E. S. Pearson, The Use of Confidence or Fiducial Limits "
    "Illustrated in the Case of the Binomial, Biometrika 26, 1934.",
    "Market impact, linear for small and square-root for large orders: F. Bucci, M. Benzaquen, F. Lillo and "
    "J.-P. Bouchaud, Crossover from Linear to Square-Root Market Impact, arXiv 1811.05230.",
    "Paths from where losses are: R. Y. Rubinstein and D. P. Kroese, The Cross-Entropy Method, Springer, 2004; their "
    "weights: A. Owen and Y. Zhou, Safe and Effective Importance Sampling, Journal of the American Statistical "
    "Association 95, 2000.",
    "Normal random numbers: G. E. P. Box and M. E. Muller, A Note on the Generation of Random Normal Deviates, Annals of "
    "Mathematical Statistics 29, 1958.",
    "Random numbers: J. K. Salmon, M. A. Moraes, R. O. Dror and D. E. Shaw, Parallel Random Numbers: As Easy "
    "as 1, 2, 3 (Philox), SC 2011.",
)

RECORD = (
    "What it takes to repeat the run, from run.toml in the same folder: versions, seed, hashes of the inputs, the job."
)
