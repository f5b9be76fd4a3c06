"""Samples of products, normalisations, attention and recurrent layers."""

from __future__ import annotations

from operator_draws import Draw, Sample, T, sample


@sample("linear")
def _linear(d: Draw) -> Sample:
    n, m = d.size(), d.some()
    return {"x": T((*d.shape(0, 3), n)), "weight": T((m, n)), "bias": d.maybe(T((m,)))}


@sample("matmul")
def _matmul(d: Draw) -> Sample:
    n, batch = d.size(), d.shape(0, 2)
    x = d.pick((n,), (d.size(), n), (*d.under(batch), d.size(), n))
    y = d.pick((n,), (n, d.size()), (*batch, n, d.size()))
    return {"x": T(x), "y": T(y)}


@sample("addmm")
def _addmm(d: Draw) -> Sample:
    m, n, k = d.size(), d.size(), d.size()
    return {
        "bias": T(d.under((m, k))),
        "x": T((m, n)),
        "weight": T((n, k)),
        "beta": d.pick(1, 2),
        "alpha": d.pick(1, 0.5),
    }


@sample("baddbmm")
def _baddbmm(d: Draw) -> Sample:
    b, m, n, k = d.size(), d.size(), d.size(), d.size()
    return {"bias": T(d.under((b, m, k))), "x": T((b, m, n)), "weight": T((b, n, k)), "alpha": d.pick(1, 0.5)}


@sample("outer")
def _outer(d: Draw) -> Sample:
    return {"x": T((d.size(),)), "y": T((d.size(),))}


@sample("einsum")
def _einsum(d: Draw) -> Sample:
    equation = d.pick(
        "ij,jk->ik", "bij,bjk->bik", "i,j->ij", "ij->ji", "ij,ij->", "bhid,bhjd->bhij", "ij,jk", "ji",
        "abc->b", "...ij,...jk->...ik", "i...->...", "ii", "ab,bc,cd->ad", "...a,ab",
    )  # fmt: skip
    sizes = {letter: d.size() for letter in sorted(set(equation) - set(",->. "))}
    batch = d.shape(0, 2)
    terms = equation.partition("->")[0].split(",")
    shapes = []
    for term in terms:
        head, dots, tail = term.partition("...")
        middle = d.under(batch) if dots else ()
        shapes.append((*(sizes[c] for c in head), *middle, *(sizes[c] for c in tail)))
    return {"equation": equation, "tensors": [T(shape) for shape in shapes]}


def _channel_parameters(d: Draw, c: int, present: bool = False) -> Sample:
    found = {"weight": T((c,)), "bias": T((c,)), "mean": T((c,)), "var": T((c,), "positive")}
    return {
        name: value if present and name in ("mean", "var") else d.maybe(value)
        for name, value in found.items()
    }


@sample("batch_norm")
def _batch_norm(d: Draw) -> Sample:
    c = d.some()
    return {
        "x": T((d.some(), c, *d.shape(0, 2, empty=False))),
        **_channel_parameters(d, c, present=True),
        "training": False,
        "momentum": 0.1,
        "eps": 1e-5,
        "cudnn": True,
    }


@sample("native_batch_norm")
def _native_batch_norm(d: Draw) -> Sample:
    found = _batch_norm(d)
    return {key: found[key] for key in ("x", "weight", "bias", "mean", "var", "momentum", "eps")}


@sample("native_batch_norm_of_batch")
def _native_batch_norm_of_batch(d: Draw) -> Sample:
    found = _native_batch_norm(d)
    return {**{key: found[key] for key in ("x", "weight", "bias", "momentum", "eps")}, "training": True}


@sample("weight_norm")
def _weight_norm(d: Draw) -> Sample:
    shape = d.shape(2, 3, empty=False)
    dim = d.int(-1, len(shape) - 1)
    length = tuple(n if axis == dim else 1 for axis, n in enumerate(shape)) if dim >= 0 else ()
    return {"direction": T(shape), "length": T(length), "dim": dim}


@sample("diff")
def _diff(d: Draw) -> Sample:
    shape = d.shape(1, 3, empty=False)
    dim = d.dim(len(shape))
    more = list(shape)
    more[dim] = d.some()
    return {"x": T(shape), "order": d.int(0, 2), "dim": dim, "before": d.maybe(T(tuple(more)))}


@sample("instance_norm")
def _instance_norm(d: Draw) -> Sample:
    c = d.some()
    return {
        "x": T((d.some(), c, d.int(2, 4), *d.shape(0, 1, empty=False))),
        **_channel_parameters(d, c, present=True),
        "use_input_stats": True,
        "momentum": 0.1,
        "eps": 1e-5,
        "cudnn": True,
    }


@sample("layer_norm")
def _layer_norm(d: Draw) -> Sample:
    shape = d.shape(1, 2, empty=False)
    return {
        "x": T((*d.shape(0, 2), *shape)),
        "shape": list(shape),
        "weight": d.maybe(T(shape)),
        "bias": d.maybe(T(shape)),
    }


@sample("native_layer_norm")
def _native_layer_norm(d: Draw) -> Sample:
    return {**_layer_norm(d), "eps": 1e-5}


@sample("rms_norm")
def _rms_norm(d: Draw) -> Sample:
    found = _layer_norm(d)
    del found["bias"]
    return {**found, "eps": d.pick(None, 1e-6)}


@sample("group_norm")
def _group_norm(d: Draw) -> Sample:
    groups = d.int(1, 3)
    c = groups * d.int(1, 2)
    return {
        "x": T((d.some(), c, d.int(2, 4), *d.shape(0, 1, empty=False))),
        "groups": groups,
        "weight": d.maybe(T((c,))),
        "bias": d.maybe(T((c,))),
    }


@sample("native_group_norm")
def _native_group_norm(d: Draw) -> Sample:
    found = _group_norm(d)
    b, c, *positions = found["x"].shape
    count = 1
    for n in positions:
        count *= n
    return {**found, "batch": b, "channels": c, "positions": count, "eps": 1e-5}


@sample("softmax", "log_softmax", "cumsum", "cumprod", "logcumsumexp", "argsort", "sort")
def _along(d: Draw) -> Sample:
    shape = d.shape()
    return {"x": T(shape), "dim": d.dim(len(shape))}


@sample("sort_stable")
def _sort_stable(d: Draw) -> Sample:
    return {**_along(d), "stable": True}


@sample("cosine_similarity")
def _cosine(d: Draw) -> Sample:
    shape = d.shape(2, 3, empty=False)
    return {"x": T(shape), "y": T(d.under(shape)), "dim": d.dim(len(shape))}


@sample("pairwise_distance")
def _pairwise_distance(d: Draw) -> Sample:
    shape = d.shape(1, 3, empty=False)
    return {"x": T(shape), "y": T(d.under(shape)), "keepdim": d.pick(True, False)}


@sample("cdist")
def _cdist(d: Draw) -> Sample:
    batch, n, m, size = d.shape(0, 2, empty=False), d.some(), d.some(), d.some()
    return {"x": T((*batch, n, size)), "y": T((*d.under(batch), m, size)), "order": d.pick(1.0, 2.0)}


@sample("attention")
def _attention(d: Draw) -> Sample:
    queries, keys, e, v = d.some(), d.some(), d.some(), d.some()
    batch = d.shape(0, 2, empty=False)
    if d.pick(True, False, False):
        groups, times = d.int(1, 2), d.int(1, 3)
        b = d.some()
        q, k = (b, groups * times), (b, groups)
        return {
            "query": T((*q, queries, e)),
            "key": T((*k, keys, e)),
            "value": T((*k, keys, v)),
            "enable_gqa": True,
        }
    found: Sample = {
        "query": T((*batch, queries, e)),
        "key": T((*batch, keys, e)),
        "value": T((*batch, keys, v)),
    }
    if d.pick(True, False):
        found["causal"] = True
    else:
        found["mask"] = d.maybe(T(d.pick((queries, keys), (*batch, queries, keys))))
    return {**found, "scale": d.pick(None, 0.5)}


@sample("prelu")
def _prelu(d: Draw) -> Sample:
    shape = d.shape(0, 4)
    return {"x": T(shape), "weight": T((d.pick(1, shape[1] if len(shape) > 1 else 1),))}


@sample("glu")
def _glu(d: Draw) -> Sample:
    shape = list(d.shape(1, 3))
    dim = d.dim(len(shape))
    shape[dim] *= 2
    return {"x": T(tuple(shape)), "dim": dim}


def _layers(d: Draw, gates: int, projected: bool = False) -> tuple[Sample, tuple[int, ...], int, list[T]]:
    layers, directions, biases, first = d.int(1, 2), d.int(1, 2), d.pick(True, False), d.pick(True, False)
    width, hidden, batch = d.some(), d.some(), (d.some(),)
    time = d.some()
    out = d.some() if projected else hidden
    x = (*batch, time, width) if first else (time, *batch, width)
    weights = []
    for layer in range(layers):
        for _ in range(directions):
            given = width if layer == 0 else out * directions
            weights += [T((gates * hidden, given)), T((gates * hidden, out))]
            weights += [T((gates * hidden,))] * 2 if biases else []
            weights += [T((out, hidden))] if projected else []
    attributes = {
        "has_biases": biases,
        "num_layers": layers,
        "dropout": 0.0,
        "train": False,
        "bidirectional": directions == 2,
        "batch_first": first,
    }
    states = (layers * directions, *batch)
    return {"x": T(x), **attributes}, states, out, [*weights, T((hidden,))]


@sample("lstm")
def _lstm(d: Draw) -> Sample:
    found, state, out, (*weights, hidden) = _layers(d, 4)
    return {**found, "states": [T((*state, out)), T((*state, *hidden.shape))], "weights": weights}


@sample("gru")
def _gru(d: Draw) -> Sample:
    found, state, out, (*weights, _) = _layers(d, 3)
    return {**found, "state": T((*state, out)), "weights": weights}


@sample("rnn_tanh", "rnn_relu")
def _rnn(d: Draw) -> Sample:
    found, state, out, (*weights, _) = _layers(d, 1)
    return {**found, "state": T((*state, out)), "weights": weights}
