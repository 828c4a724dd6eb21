"""The engine of `equipoise compare`: which loss should this table be trained with, and does any of them help at all?

The modules follow the data: `data` and `readers` read a table, `columns` and `problem` say what it holds, `splits` and
`features` prepare it, `candidates`, `models` and `training` train one loss on one seed, `store` and `engine` run all of
them and keep what is finished, `metrics`, `statistics` and `summary` turn scores into an answer, `terminal` and
`report` show it. Everything here uses the public surface of `equipoise` only.
"""
