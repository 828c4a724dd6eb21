"""Comparisons of embeddings: which loss brings rows of one class together, when the class was never seen in training?

What differs from classification is here, and all else is shared: `splitting` gives whole classes to each part,
`batches` draws some rows of each of some classes, `candidates` are the losses that take a labelled batch, `measures`
say how well a class is found, `running` makes one training of it, and `snippet` is the code to paste.
"""
