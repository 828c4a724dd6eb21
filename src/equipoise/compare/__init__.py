"""The engine of `equipoise compare`: which loss should this table be trained with, and does any of them help at all?

The modules follow the data. `data` and `readers` read a table, `columns` and `problem` say what it holds, `profile`
what is suspicious about it, `splits` and `features` prepare it, and `preparation` makes a `study` of it all.
`candidates` (the losses, and the `remedies` beside them), `trials`, `models` and `training` are what a training needs,
`recipe` is what the kind of problem decides of it (`retrieval` holds what embeddings have of their own, `tasks` what
several targets do), `jobs` is one training, `pools`, `store` and `engine` run all of them and keep what is finished.
`metrics`, `calibration`, `gradients`, `statistics`, `summary` and `verdict` turn scores into an answer; `terminal`,
`document` and `report` show it, `snippet`, `saving` and `predicting` put it to use. Everything here uses the public
surface of `equipoise` only.
"""
