"""Several targets at once: one trunk, a head for each task, and the question what the tasks' losses should weigh.

`target` reads what was asked for, `task` says what a task is, `preparation` makes a `study` of the table. `candidates`
are the ways to weigh, `losses` brings a batch's labels, the tasks' losses and the balancer together, `metrics` scores,
`jobs` is one training. `summary` and `verdict` turn the scores into an answer, `terminal`, `document`, `report` and
`snippet` show it. Trials, the store, the engine and the statistics are those of a single target.
"""
