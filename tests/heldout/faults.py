"""The faults of spec/faults.json, each injected as its 'inject' says. A fault gets a Model and changes one op of it.

@fault(id, on=families, program=..., variants=..., dtypes=...): one function per id. alias: other ids whose text is the same
injection; 'ID@capture' and 'ID@variant' hold only there. accept_unnamed: the text leaves the injection open, unnamed is right too. kind 'optional': the id is a runtime fault that one trace
can show but hardly name. The functions stand in faults_*.py by class.
"""
import re

import numpy as np

FAULTS = []


class Fault:
    def __init__(self, id, fn, on, program, variants, dtypes, alias, kind, accept_unnamed):
        self.id, self.fn, self.on, self.program, self.variants = id, fn, on, program, variants
        self.dtypes, self.alias, self.kind, self.accept_unnamed = dtypes, alias, kind, accept_unnamed


def fault(id, on=("ps",), program="std", variants=("",), dtypes=("f32", "bf16"), alias=(), kind="listed", accept_unnamed=False):
    def add(fn):
        FAULTS.append(Fault(id, fn, (on,) if isinstance(on, str) else on, program, variants, dtypes, alias, kind, accept_unnamed))
        return fn
    return add


def override(m, name, fn):
    """fn(old method, *its arguments) takes the method's place."""
    old = getattr(m, name)
    setattr(m, name, lambda *a, **k: fn(old, *a, **k))


def edit(m, pattern, fn):
    """Changes the value of every point whose whole name matches; 'N' stands for any layer."""
    rx = re.compile(pattern.replace(".", r"\.").replace("N", r"\d+"))
    m.edits.append((lambda name: rx.fullmatch(name) is not None, fn))


def hide(m, pattern):
    rx = re.compile(pattern.replace(".", r"\.").replace("N", r"\d+"))
    m.unrecorded.append(lambda name: rx.fullmatch(name) is not None)


def layers(m, name, what="weight"):
    """Names of one parameter in every layer that has it."""
    return [k for i in range(m.c.L) if (k := f"model.layers.{i}.{name}.{what}") in m.w]


def rounded(m, x):
    return m.num.r(np.asarray(x, m.num.ct))


class Columns:
    """A cache whose columns are not the right ones: index[j] is the right column that column j holds, -1 one that is always seen."""

    def __init__(self, m):
        self.m = m
        self.index = np.arange(m.c.T)
        override(m, "keep", self.keep)

    def plan(self, S):
        """The columns after this call, before any fault: what is there, then S new ones."""
        last = self.m.c.T + self.m.past
        return self.index, np.arange(last, last + S)

    def keep(self, old, st, S, window=None):
        k = old(st, S, window)
        self.index = self.columns(*self.plan(S))
        return np.where(self.index < 0, True, k[..., np.maximum(self.index, 0)])


import faults_attention  # noqa: E402,F401
import faults_mask  # noqa: E402,F401
import faults_cache  # noqa: E402,F401
import faults_rope  # noqa: E402,F401
import faults_weights  # noqa: E402,F401
import faults_extra  # noqa: E402,F401
