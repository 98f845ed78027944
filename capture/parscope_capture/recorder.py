"""`record`: hooks on a model, values into a trace."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import nn

from . import attention, backends, manifest, parscale, shards
from .caches import Caches
from .inputs import Call, bind, find_cache
from .names import Wanted, canonical, decoder_path, first_tensor, layer_of, unwrapped, value_modules
from .progress import Progress
from .writer import CaptureError, StepFile, TraceDir


def record(
    model: nn.Module,
    out: str | Path,
    *,
    points: str | Iterable[str] | None = None,
    layers: Collection[int] | None = None,
    steps: Collection[int] | None = None,
    gradients: bool = False,
    weights: bool | None = None,
    overwrite: bool = False,
    progress: bool | None = None,
) -> Recorder:
    """Records the runs of `model` inside the `with` block as a trace in the folder `out`.

    points     patterns of point names, such as "*.self_attn:*", or "modules" or "layers"; all by default
    layers     layer numbers, such as range(4); all by default
    steps      step numbers: 0 is the prefill; all by default
    gradients  also the parameters' gradients, as grad/NAME
    weights    checksums of the weights in trace.json; by default where they are below 2 GiB
    overwrite  a trace that is there already is replaced, once the new one is whole
    progress   one line on stderr; by default where that is a terminal

    Each call of the model is a step. A call that starts with an empty cache after others begins a new trace, out.2, out.3, ...
    """
    return Recorder(model, Path(out), Wanted(points, layers), steps, gradients, weights, overwrite, Progress(progress))


class Recorder:
    """What `record` returns; `traces` lists the folders that were written."""

    def __init__(
        self,
        model: nn.Module,
        out: Path,
        wanted: Wanted,
        steps: Collection[int] | None,
        gradients: bool,
        weights: bool | None,
        overwrite: bool,
        progress: Progress,
    ) -> None:
        self.traces: list[Path] = []
        self._model, self._out, self._wanted, self._steps = unwrapped(model), out, wanted, steps
        self._gradients, self._weights, self._overwrite, self._progress = gradients, weights, overwrite, progress
        self._decoder = decoder_path(self._model)
        self.config = getattr(self._model, "config", None)
        self._widths = shards.widths(self.config)
        self._tp = shards.tensor_parallel(self._model)
        self._placed = shards.placements(self._model)  # now: FSDP leaves some gathered after a step
        if gradients and shards.of_data_ranks(self._model):
            raise CaptureError("gradients: FSDP's are means over the batches of all ranks; record one process's, or gradients=False")
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        self._rank = torch.distributed.get_rank() if distributed else 0
        self._world = torch.distributed.get_world_size() if distributed else 1
        self._handles: list[Any] = []
        self._replaced = attention.Replaced()
        self._watches: list[attention.AttentionWatch] = []
        self._caches = Caches(lambda: self._watches[-1] if self._watches else None)
        self._trace: TraceDir | None = None
        self._runs = 0
        self._open = self._raised = False
        self._reset()

    @property
    def recording(self) -> bool:
        return self._file is not None and self._open

    @property
    def decoder(self) -> nn.Module:
        """The module that the trace calls `model`."""
        for path, module in self._model.named_modules():
            if canonical(path, self._decoder) == "model":
                return module
        return self._model

    def _reset(self) -> None:
        self._step, self._past = -1, 0
        self._autocast: torch.dtype | None = None
        self._file: StepFile | None = None
        self._call: Call | None = None
        self._caches.new_run()
        self._events: list[dict[str, Any]] = []
        self._shards: dict[str, dict[str, int]] = {}

    # ---- the block ------------------------------------------------------------------------------------------------

    def __enter__(self) -> Recorder:
        self._trace = self._new_trace(self._out)
        try:
            self._attach()
        except BaseException:
            self._detach()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._detach()
        if error is None:
            self._finish_trace()
            if not self.traces:
                raise CaptureError(f"{self._out}: nothing was recorded: the model was not called inside the block")
            return
        what = f"{type(error).__name__} {'in' if self._raised else 'after'} step {self._step}"
        self._close_step()
        if self._trace is not None and self._trace.steps:
            self._trace.write_manifest({**self._manifest(self._trace.steps), "ended": what})
            print(f"parscope: {what}; what was recorded is in {self._trace.partial}", file=sys.stderr)

    def _finish_trace(self) -> None:
        self._close_step()
        assert self._trace is not None
        steps = self._trace.steps
        if self._world > 1:
            gathered: list[Any] = [None] * self._world
            torch.distributed.all_gather_object(gathered, (steps, self._shards))
            steps = sorted((s for part, _ in gathered for s in part), key=lambda s: (s["step"], s["rank"]))
            for _, part in gathered:
                self._shards.update(part)
        if not steps:
            return
        if self._rank == 0:
            self._trace.write_manifest(self._manifest(steps))
            self._trace.finish()
        if self._world > 1:
            torch.distributed.barrier()
        self.traces.append(self._trace.out)
        self._progress.done(f"parscope: {len({s['step'] for s in steps})} steps in {self._trace.out}")

    # ---- hooks ----------------------------------------------------------------------------------------------------

    def _attach(self) -> None:
        hook = self._handles.append
        hook(self._model.register_forward_pre_hook(self._begin, with_kwargs=True))
        for name, module in value_modules(self._model, self._decoder):
            if name in self._wanted:
                hook(module.register_forward_hook(self._output_hook(name)))
        for path, module in self._model.named_modules():
            self._attach_inner(canonical(path, self._decoder), module)
        if self._gradients:
            for path, parameter in self._model.named_parameters():
                if parameter.requires_grad:
                    hook(parameter.register_post_accumulate_grad_hook(self._gradient_hook(path)))
        hook(self._model.register_forward_hook(self._end, always_call=True))
        attention.watch_flex(self._replaced, self._flex)

    def _attach_inner(self, name: str, module: nn.Module) -> None:
        hook = self._handles.append
        layer = layer_of(name)
        part = name.rpartition(".")[2]
        if part == "rotary_emb" and layer is None:
            hook(module.register_forward_hook(self._rotary_hook))
        if layer is None:
            parscale.attach(self, name, module, hook)
            return
        if part in ("self_attn", "cross_replica_attn"):
            hook(module.register_forward_pre_hook(self._attention_begin(name, layer), with_kwargs=True))
            hook(module.register_forward_hook(self._attention_end, always_call=True))
            self._watch_rotary(sys.modules[type(module).__module__].__dict__)
            self._watch_rotary(getattr(inspect.unwrap(module.forward), "__globals__", {}))
        elif part == "o_proj":
            hook(module.register_forward_pre_hook(self._input_hook(f"{name[: -len('.o_proj')]}:context", flat=True)))
        elif part == "down_proj":
            hook(module.register_forward_pre_hook(self._input_hook(f"{name[: -len('.down_proj')]}:act")))
        elif part == "post_attention_layernorm":
            hook(module.register_forward_pre_hook(self._input_hook(f"{name.rpartition('.')[0]}:attn_residual")))

    def _detach(self) -> None:
        for watch in reversed(self._watches):
            watch.__exit__(None, None, None)
        self._watches.clear()
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._replaced.restore()
        self._caches.restore()

    def _output_hook(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            value = first_tensor(output)
            if value is not None:
                self.emit(name, value)

        return hook

    def _input_hook(self, name: str, flat: bool = False) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any) -> None:
            if args and isinstance(args[0], torch.Tensor):
                value = args[0]
                self.emit(name, value.flatten(2) if flat and value.dim() == 4 else value)

        return hook

    def _gradient_hook(self, path: str) -> Callable[[torch.Tensor], None]:
        name = f"grad/{canonical(path, self._decoder)}"

        def hook(parameter: torch.Tensor) -> None:
            if self._file is not None and parameter.grad is not None:
                value, dim, _ = shards.local(parameter.grad)
                if dim is not None:
                    self._shards[name] = {"dim": dim}
                self._file.write(name, value)

        return hook

    def _rotary_hook(self, module: nn.Module, args: Any, output: Any) -> None:
        if isinstance(output, tuple) and len(output) == 2:
            self.emit("model.rotary_emb:cos", output[0])
            self.emit("model.rotary_emb:sin", output[1])
        inv_freq = getattr(module, "inv_freq", None)
        if isinstance(inv_freq, torch.Tensor):
            self.emit("model.rotary_emb:inv_freq", inv_freq)

    # ---- attention ------------------------------------------------------------------------------------------------

    def _attention_begin(self, name: str, layer: int) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
            if self._file is None or self._call is None:
                return
            masked = name.endswith(".self_attn")
            columns = self._past + self._call.tokens + parscale.prefix(module) if masked else None
            watch = attention.AttentionWatch(self, module, name, layer, self._call.tokens, columns, masked)
            cache = find_cache(args, kwargs)
            if cache is not None and masked:
                self._caches.watch(cache)
            self._watches.append(watch)
            watch.__enter__()

        return hook

    def _attention_end(self, module: nn.Module, args: Any, output: Any) -> None:
        if self._watches and self._watches[-1].module is module:
            watch = self._watches.pop()
            watch.__exit__(None, None, None)
            watch.close()

    def _watch_rotary(self, namespace: dict[str, Any]) -> None:
        for name in attention.rotary_names(namespace):
            self._replaced.replace(namespace, name, self._rotary)

    def _rotary(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def rotated(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            if self._watches and isinstance(result, tuple) and len(result) == 2:
                watch = self._watches[-1]
                for point, value in zip(("q_rope", "k_rope"), result):
                    sideways = watch.masked and kwargs.get("unsqueeze_dim", 1) == 2
                    watch.emit(point, value.transpose(1, 2) if sideways else value)
            return result

        return rotated

    def _flex(self, query: torch.Tensor, key: torch.Tensor, block_mask: Any) -> None:
        if self._watches:
            self._watches[-1].flex(query, key, block_mask)

    def mask(self, layer: int, value: torch.Tensor) -> None:
        """The mask of the first layer of its kind; sliding layers beside full ones have their own."""
        kinds = list(getattr(self.config, "layer_types", None) or [])
        sliding = layer < len(kinds) and kinds[layer] == "sliding_attention" and len(set(kinds)) > 1
        self.emit("model:mask_sliding" if sliding else "model:mask", value)

    def ran(self, layer: int, executed: str, kernel: str | None) -> None:
        watch = self._watches[-1] if self._watches else None
        if watch is not None:
            self._events.append(backends.event(watch.module, self._step, layer, executed, kernel))

    # ---- steps ----------------------------------------------------------------------------------------------------

    def _begin(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        call = bind(self._model, args, kwargs)
        self._close_step()
        if self._step >= 0 and call.past == 0:
            self._next_run()
        if call.past is not None:
            self._past = call.past
        self._step += 1
        self._call = call
        self._autocast = backends.autocast_dtype(self._model) or self._autocast
        if self._steps is None or self._step in self._steps:
            assert self._trace is not None
            self._file = self._trace.open_step(self._step)
            for name, value in call.recorded(self._past).items():
                self._file.write(name, value)
        self._open = True

    def _end(self, module: nn.Module, args: Any, output: Any) -> None:
        self._open, self._raised = False, output is None
        if self._call is not None:
            self._past += self._call.tokens

    def _close_step(self) -> None:
        """A step's file stays open until the next call, for the gradients that come between."""
        if self._file is not None and self._trace is not None:
            self._trace.add(self._step, self._file)
        self._file = None

    def _next_run(self) -> None:
        self._finish_trace()
        self._runs += 1
        self._reset()
        self._trace = self._new_trace(self._out.with_name(f"{self._out.name}.{self._runs + 1}"))

    def _new_trace(self, out: Path) -> TraceDir:
        """Rank 0 clears what an aborted run left; nobody writes before that."""
        trace = TraceDir(out, self._rank, self._overwrite)
        if self._world > 1:
            torch.distributed.barrier()
        return trace

    def emit(self, name: str, value: torch.Tensor) -> None:
        """One value of the step that runs; the first of its name counts."""
        if self._file is None or not self._open or name not in self._wanted:
            return
        part, dim, partial = shards.local(value)
        if dim is None:
            dim = shards.inferred_dim(name, part.shape, self._widths, self._tp)
        if dim is not None:
            self._shards[name] = {"dim": dim}
        name = f"{name}:partial" if partial else name
        if name in self._file:
            return
        self._file.write(name, part)
        self._progress.update(self._step, len(self._file), self._file.size)

    # ---- the manifest ---------------------------------------------------------------------------------------------

    def _manifest(self, steps: list[dict[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {
            **manifest.of_model(self._model, self.config),
            "world_size": self._world,
            "tensor_parallel": self._tp,
            "steps": steps,
        }
        if self._autocast is not None:
            found["autocast"] = str(self._autocast).removeprefix("torch.")
        if self._shards:
            found["shards"] = self._shards
        if self._events:
            found["backends"] = backends.merged(self._events)
        if self._placed:
            found["placements"] = self._placed
        elif self._tp == 1:
            summed = manifest.weight_sums(self._model, self._decoder, self._weights)
            if summed:
                found["weights"] = summed
        return found
