"""Faults of spec/faults.json that are not in the held-out set, each with its reason."""

WHY = {
    "raises an exception: there is no activation": """
        runtime-api-drift runtime-bool-of-tensor runtime-device-mismatch runtime-wrong-default-config weights-kv-heads-default
        weights-head-dim-derived shard-dtensor-local-prefix shard-all-reduce-return-none mask-flex-python-bool aggregation-layer-absent-n1
        replica-kv-heads-ignored replica-rope-batch-count attention-gqa-wrong-axis numeric-dtype-mismatch-parameter""",
    "activations are exact": "runtime-silent-fallback runtime-last-token-index runtime-training-only mask-4d-unpacked-as-3d",
    "the reference is the wrong side: any other fault, seen from there": "runtime-wrong-oracle",
    "is the benign difference reduction-order": "runtime-batch-invariance",
    "needs more than 2^31 elements": "numeric-int32-index-overflow",
    "no architecture of the spec has it (soft-cap, ALiBi, partial rotary, dynamic NTK, a scaled embedding, a shared branch, a norm over the whole projection)": """
        attention-softcap-missing attention-alibi-slopes shard-alibi-slopes-local rope-partial-dim rope-dynamic-ntk-stateful
        numeric-trained-constant-rounding shard-replicated-branch-summed shard-qk-norm-rank-local""",
    "needs the ranks side by side; a joined trace of rank 0 equals the reference": "shard-dtensor-false-replicate",
    "changes only rows without any key, which are never compared": "mask-finfo-min-summed",
}
SKIPPED = [{"id": i, "why": why} for why, ids in WHY.items() for i in ids.split()]
