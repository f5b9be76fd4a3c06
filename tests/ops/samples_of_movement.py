"""Samples of movement, indexing and creation."""

from __future__ import annotations

from operator_draws import SAMPLES, Draw, Sample, T, sample


@sample("reshape")
def _reshape(d: Draw) -> Sample:
    shape = d.shape()
    wanted = list(shape)
    d.random.shuffle(wanted)
    if len(wanted) > 1 and d.pick(True, False):
        wanted = [wanted[0] * wanted[1], *wanted[2:]]
    if wanted and 0 not in wanted and d.pick(True, False):
        wanted[d.int(0, len(wanted) - 1)] = -1
    return {"x": T(shape), "shape": wanted}


@sample("permute")
def _permute(d: Draw) -> Sample:
    shape = d.shape()
    order = d.random.sample(range(len(shape)), len(shape))
    return {"x": T(shape), "dims": [i - len(shape) if d.pick(True, False) else i for i in order]}


@sample("expand")
def _expand(d: Draw) -> Sample:
    shape = d.shape()
    x = d.under(shape)
    added = len(shape) - len(x)
    wanted = [
        -1 if i >= added and x[i - added] == n and d.pick(True, False) else n for i, n in enumerate(shape)
    ]
    return {"x": T(x), "shape": wanted}


@sample("squeeze", "flip")
def _axes(d: Draw) -> Sample:
    shape = d.shape()
    return {"x": T(shape), "dims": d.dims(len(shape))}


@sample("unsqueeze")
def _unsqueeze(d: Draw) -> Sample:
    shape = d.shape()
    return {"x": T(shape), "dim": d.dim(len(shape) + 1)}


@sample("concat")
def _concat(d: Draw) -> Sample:
    shape = d.shape(1, 4)
    dim = d.dim(len(shape))
    at = dim % len(shape)
    shapes = [(*shape[:at], d.size(), *shape[at + 1 :]) for _ in range(d.int(1, 3))]
    return {"tensors": [T(s) for s in shapes], "dim": dim}


@sample("stack")
def _stack(d: Draw) -> Sample:
    shape = d.shape(0, 3)
    return {"tensors": [T(shape)] * d.int(1, 3), "dim": d.dim(len(shape) + 1)}


@sample("split")
def _split(d: Draw) -> Sample:
    sizes = [d.size() for _ in range(d.int(1, 3))]
    shape = list(d.shape(1, 3))
    dim = d.dim(len(shape))
    shape[dim] = sum(sizes)
    return {"x": T(tuple(shape)), "sizes": sizes, "dim": dim}


@sample("unbind")
def _unbind(d: Draw) -> Sample:
    shape = d.shape(1, 3)
    return {"x": T(shape), "dim": d.dim(len(shape))}


@sample("slice")
def _slice(d: Draw) -> Sample:
    shape = d.shape(1, 3)
    return {
        "x": T(shape),
        "dim": d.dim(len(shape)),
        "start": d.maybe(d.int(-6, 6)),
        "end": d.maybe(d.pick(d.int(-6, 6), 2**63 - 1)),
        "step": d.int(1, 3),
    }


@sample("select")
def _select(d: Draw) -> Sample:
    shape = d.shape(1, 3, empty=False)
    dim = d.dim(len(shape))
    return {"x": T(shape), "dim": dim, "index": d.int(-shape[dim], shape[dim] - 1)}


@sample("pad")
def _pad(d: Draw) -> Sample:
    mode = d.pick("constant", "constant", "reflect", "replicate", "circular")
    if mode == "constant":
        shape = d.shape(1, 3, empty=False)
        pads = d.int(0, len(shape))
        return {"x": T(shape), "pad": [d.int(-1, 2) for _ in range(2 * pads)], "value": d.pick(None, 0.0)}
    pads = d.int(1, 2)
    shape = (*d.pick((), (d.some(),)), d.some(), *(d.int(3, 5) for _ in range(pads)))
    return {"x": T(shape), "pad": [d.int(-1, 2) for _ in range(2 * pads)], "mode": mode}


@sample("roll")
def _roll(d: Draw) -> Sample:
    shape = d.shape()
    dims = d.dims(len(shape))
    return {"x": T(shape), "shifts": [d.int(-3, 3) for _ in dims] or [d.int(-3, 3)], "dims": dims}


@sample("rot90")
def _rot90(d: Draw) -> Sample:
    shape = d.shape(2, 4)
    return {"x": T(shape), "k": d.int(-5, 5), "dims": d.random.sample(range(len(shape)), 2)}


@sample("repeat")
def _repeat(d: Draw) -> Sample:
    shape = d.shape(0, 3)
    return {"x": T(shape), "repeats": [d.int(0, 3) for _ in range(len(shape) + d.int(0, 1))]}


@sample("repeat_interleave")
def _repeat_interleave(d: Draw) -> Sample:
    shape = d.shape(1, 3)
    return {"x": T(shape), "repeats": d.int(0, 3), "dim": d.maybe(d.dim(len(shape)))}


@sample("pixel_shuffle")
def _pixel_shuffle(d: Draw) -> Sample:
    f = d.int(1, 3)
    return {"x": T((*d.shape(0, 2, empty=False), d.some() * f * f, d.some(), d.some())), "factor": f}


@sample("pixel_unshuffle")
def _pixel_unshuffle(d: Draw) -> Sample:
    f = d.int(1, 3)
    return {"x": T((*d.shape(0, 2, empty=False), d.some(), d.some() * f, d.some() * f)), "factor": f}


@sample("channel_shuffle")
def _channel_shuffle(d: Draw) -> Sample:
    groups = d.int(1, 3)
    return {"x": T((d.some(), groups * d.some(), d.some(), d.some())), "groups": groups}


@sample("tril", "triu")
def _triangle(d: Draw) -> Sample:
    return {"x": T(d.shape(2, 4)), "diagonal": d.int(-2, 2)}


@sample("diagonal")
def _diagonal(d: Draw) -> Sample:
    shape = d.shape(2, 4)
    first, second = d.random.sample(range(len(shape)), 2)
    return {"x": T(shape), "offset": d.int(-2, 2), "dim1": first, "dim2": second - len(shape)}


@sample("diag_embed")
def _diag_embed(d: Draw) -> Sample:
    shape = d.shape(1, 3)
    first, second = d.random.sample(range(len(shape) + 1), 2)
    return {"x": T(shape), "offset": d.int(-2, 2), "dim1": first, "dim2": second}


@sample("unfold")
def _unfold(d: Draw) -> Sample:
    shape = d.shape(1, 3)
    dim = d.dim(len(shape))
    return {"x": T(shape), "dim": dim, "size": d.int(0, shape[dim]), "step": d.int(1, 3)}


@sample("embedding")
def _embedding(d: Draw) -> Sample:
    v = d.some()
    return {"weight": T((v, d.size())), "indices": T(d.shape(0, 3), "index", v)}


@sample("gather")
def _gather(d: Draw) -> Sample:
    shape = d.shape(1, 3, empty=False)
    dim = d.dim(len(shape))
    index = [d.int(0, n) for n in shape]
    index[dim] = d.size()
    return {"x": T(shape), "dim": dim, "index": T(tuple(index), "index", shape[dim])}


@sample("take_along_dim")
def _take_along_dim(d: Draw) -> Sample:
    shape = d.shape(1, 3, empty=False)
    dim = d.dim(len(shape))
    index = [d.pick(1, n) for n in shape]
    index[dim] = d.some()
    return {"x": T(shape), "index": T(tuple(index), "index", shape[dim]), "dim": dim}


@sample("index_select")
def _index_select(d: Draw) -> Sample:
    shape = d.shape(1, 3, empty=False)
    dim = d.dim(len(shape))
    return {"x": T(shape), "dim": dim, "index": T((d.size(),), "index", shape[dim])}


@sample("index")
def _index(d: Draw) -> Sample:
    shape = d.shape(1, 4, empty=False)
    chosen = d.shape(0, 2)
    count = d.int(1, len(shape))
    given = set(d.random.sample(range(count), d.int(1, count)))
    indices = [T(d.under(chosen), "index", n) if i in given else None for i, n in enumerate(shape[:count])]
    return {"x": T(shape), "indices": indices}


@sample("index_put")
def _index_put(d: Draw) -> Sample:
    found = _index(d)
    return {**found, "values": T(()), "accumulate": d.pick(True, False)}


@sample("index_add", "index_copy")
def _index_add(d: Draw) -> Sample:
    found = _index_select(d)
    shape = list(found["x"].shape)
    shape[found["dim"]] = found["index"].shape[0]
    return {**found, "source": T(tuple(shape))}


@sample("index_fill")
def _index_fill(d: Draw) -> Sample:
    return {**_index_select(d), "value": d.pick(1.5, T(()))}


@sample("scatter", "scatter_add", "scatter_reduce")
def _scatter(d: Draw) -> Sample:
    found = _gather(d)
    shape = found["index"].shape
    return {**found, "source": T(tuple(n + d.int(0, 1) for n in shape))}


SAMPLES["scatter_reduce"] = lambda d: {**_scatter(d), "reduce": d.pick("sum", "prod", "mean", "amax", "amin")}
SAMPLES["scatter"] = lambda d: {**(found := _scatter(d)), "source": d.pick(2.0, found["source"])}


@sample("slice_scatter")
def _slice_scatter(d: Draw) -> Sample:
    found = _slice(d)
    shape, dim = list(found["x"].shape), found["dim"]
    shape[dim] = len(range(shape[dim])[slice(found["start"], found["end"], found["step"])])
    return {**found, "source": T(tuple(shape))}


@sample("select_scatter")
def _select_scatter(d: Draw) -> Sample:
    found = _select(d)
    shape = list(found["x"].shape)
    del shape[found["dim"]]
    return {**found, "source": T(tuple(shape))}


@sample("masked_scatter")
def _masked_scatter(d: Draw) -> Sample:
    shape = d.shape(1, 3)
    return {"x": T(shape), "mask": T(d.under(shape), "bool"), "source": T((200,))}


@sample("one_hot")
def _one_hot(d: Draw) -> Sample:
    return {"x": T(d.shape(), "index", 4), "classes": 4}


@sample("arange")
def _arange(d: Draw) -> Sample:
    step = d.pick(1, 2, -1, 0.5, 0.3)
    way = d.int(0, 9)
    start = d.int(-3, 3)
    return {"start": start, "end": start + way if step > 0 else start - way, "step": step}


@sample("linspace")
def _linspace(d: Draw) -> Sample:
    return {"start": -1.0, "end": 2.0, "steps": d.int(0, 6)}


@sample("zeros", "ones", "empty", "rand", "randn")
def _sized(d: Draw) -> Sample:
    return {"size": list(d.shape())}


@sample("full")
def _full(d: Draw) -> Sample:
    return {"size": list(d.shape()), "value": 1.5}


@sample("new_zeros", "new_ones", "new_empty")
def _new(d: Draw) -> Sample:
    return {"x": T(d.shape()), "size": list(d.shape())}


SAMPLES["new_full"] = lambda d: {**_new(d), "value": 2.0}
SAMPLES["eye"] = lambda d: {"n": d.size(), "m": d.size()}
SAMPLES["scalar_tensor"] = lambda d: {"value": 1.5}


@sample("meshgrid")
def _meshgrid(d: Draw) -> Sample:
    return {"tensors": [T(d.shape(0, 1)) for _ in range(d.int(1, 3))], "indexing": d.pick("ij", "xy")}


@sample("size")
def _size(d: Draw) -> Sample:
    shape = d.shape(1, 3)
    return {"x": T(shape), "dim": d.dim(len(shape))}


SAMPLES["item"] = lambda d: {"x": T(d.pick((), (1,), (1, 1)))}
