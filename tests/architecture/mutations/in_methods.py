"""Faults in what a method computes in a step."""

from tests.architecture.mutations.fault import fault

_STEPS = "pretrain/models/test_moco.py::test_twenty_steps_of_one_process_are_algorithm_1"
_RANKS = "pretrain/models/test_moco.py::test_twenty_steps_of_four_ranks_are_algorithm_1"
_SHUFFLED = "pretrain/models/test_shuffle_bn.py::test_shuffle_is_the_permutation_and_unshuffle_its_inverse"
_SYNCED = "pretrain/models/test_shuffle_bn.py::test_sync_bn_of_a_group_is_bn_over_its_joined_batch"

FAULTS = (
    # the loss and the methods
    fault(
        "info-nce-gradient",
        "pretrain/models/info_nce.py",
        "- positive) / (temperature * len(query)))",
        "- positive) / len(query))",
        "the gradient is five to fourteen times too small, and the run learns little",
        "pretrain/models/test_info_nce.py::test_it_is_cross_entropy_of_the_positive_first",
    ),
    fault(
        "info-nce-denominator",
        "pretrain/models/info_nce.py",
        "near, torch.ones_like(near), positive.T",
        "near, torch.zeros_like(near), positive.T",
        "the positive is missing from the softmax's denominator",
        "pretrain/models/test_info_nce.py::test_equal_scores_give_the_log_of_their_number",
    ),
    fault(
        "momentum-swapped",
        "pretrain/models/moco.py",
        "torch._foreach_lerp_(followers, leaders, 1 - self.momentum)",
        "torch._foreach_lerp_(followers, leaders, self.momentum)",
        "the key encoder is the query encoder of a step ago: the dictionary is not consistent",
        "pretrain/models/test_moco.py::test_the_ends_of_momentum",
    ),
    fault(
        "momentum-of-buffers",
        "pretrain/models/moco.py",
        "        torch._foreach_lerp_(followers",
        "        for own, other in zip(self.encoder_k.buffers(), self.encoder_q.buffers(), strict=True):\n"
        "            own.copy_(other)\n"
        "        torch._foreach_lerp_(followers",
        "BN statistics of the key encoder are the query encoder's, unlike the published code",
        "pretrain/models/test_moco.py::test_momentum_moves_parameters_and_leaves_buffers",
    ),
    fault(
        "queue-wrap",
        "pretrain/models/moco.py",
        "self.keys[: len(keys) - before_end] = keys[before_end:]",
        "self.keys[: len(keys) - before_end] = keys[: len(keys) - before_end]",
        "where the ring wraps, some keys stand in the queue twice and others are lost",
        "pretrain/models/test_moco.py::test_queue_holds_the_newest_keys_in_order",
    ),
    fault(
        "queue-graph",
        "pretrain/models/moco.py",
        "    @torch.no_grad()\n    def enqueue",
        "    def enqueue",
        "memory grows with every step until the run is killed",
        "pretrain/models/test_moco.py::test_queue_keeps_no_graph",
    ),
    fault(
        "features-not-normalised",
        "pretrain/models/method.py",
        "return F.normalize(features.to(torch.promote_types(features.dtype, torch.float32)), dim=1)",
        "return features.to(torch.promote_types(features.dtype, torch.float32))",
        "scores are products of features of any length, and the temperature means nothing",
        _STEPS,
    ),
    fault(
        "end-to-end-detached",
        "pretrain/models/end_to_end.py",
        "scores = query @ keys.T / self.temperature",
        "scores = query @ keys.detach().T / self.temperature",
        "the end-to-end baseline learns from the queries only",
        "pretrain/models/test_methods.py::test_end_to_end_keys_have_gradient_and_nothing_is_stored",
    ),
    fault(
        "bank-own-entry",
        "pretrain/models/memory_bank.py",
        "(indices[:, None] == drawn).to(",
        "(indices[:, None] != indices[:, None]).to(",
        "a query is pushed away from its own entry of the memory bank",
        "pretrain/models/test_methods.py::test_a_querys_own_entry_is_not_a_negative",
    ),
    # batch norm
    fault(
        "unshuffle-not-inverse",
        "pretrain/models/shuffle_bn.py",
        "gathered[_sent(permutation.argsort(), keys.device)]",
        "gathered[_sent(permutation, keys.device)]",
        "queries are compared with the keys of other images",
        _SHUFFLED,
    ),
    fault(
        "shuffle-arrival",
        "pretrain/models/shuffle_bn.py",
        "    shuffled = torch.empty_like(received)\n    shuffled[arrival] = received\n",
        "    shuffled = received[arrival]\n",
        "images arrive in another order than the keys are put back from",
        _SHUFFLED,
    ),
    fault(
        "grouped-bn-statistics",
        "pretrain/models/shuffle_bn.py",
        "F.batch_norm(x, None, None, self.weight, self.bias, True, 0.0, self.eps)",
        "F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, True, 0.1, self.eps)",
        "BN groups on one device save other statistics than as many ranks",
        "pretrain/models/test_shuffle_bn.py::test_grouped_bn_keeps_the_statistics_of_the_first_part",
    ),
    fault(
        "sync-bn-variance",
        "pretrain/runtime/sync_batchnorm.py",
        "(counts * (variances + (means - mean) ** 2)).sum(0)",
        "(counts * variances).sum(0)",
        "SyncBN forgets how the means of the ranks differ",
        _SYNCED,
    ),
    fault(
        "sync-bn-gradient",
        "pretrain/runtime/sync_batchnorm.py",
        "        dist.all_reduce(total, group=ctx.group)\n",
        "",
        "the gradient of SyncBN is that of one rank's rows",
        _SYNCED,
    ),
    fault(
        "bn-statistics-not-shared",
        "pretrain/runtime/distributed.py",
        "for buffer in norm.buffers()])",
        "for buffer in norm.parameters()])",
        "ranks validate models with different BN statistics, and rank 0 saves yet another",
        "pretrain/runtime/test_distributed.py",
    ),
    # the step
    fault(
        "cosine-one-epoch-early",
        "pretrain/engine/optim.py",
        "math.cos(math.pi * position / end)",
        "math.cos(math.pi * (position + 1) / end)",
        "the last epoch trains with a learning rate of 0",
        "pretrain/engine/test_optim.py::test_v2_is_half_a_cosine_stepped_by_epoch",
    ),
    fault(
        "milestone-one-epoch-late",
        "pretrain/engine/optim.py",
        "sum(position >= milestone for",
        "sum(position > milestone for",
        "the learning rate drops an epoch late",
        "pretrain/engine/test_optim.py::test_v1_drops_at_120_and_160",
    ),
    fault(
        "nan-not-checked",
        "pretrain/engine/step.py",
        "            self._read(self.delay)\n",
        "",
        "a NaN of one rank reaches weights and queue, and every checkpoint after it",
        "pretrain/engine/test_step.py::test_nan_on_one_rank_stops_all_before_the_update",
    ),
    fault(
        "accumulated-gradient",
        "pretrain/engine/step.py",
        "finite_check.backward(self.scaler.scale(output.loss), 1 / len(generators))",
        "finite_check.backward(self.scaler.scale(output.loss))",
        "with optim.accumulate the learning rate is as many times too large",
        _STEPS,
    ),
    fault(
        "parts-before-ranks",
        "pretrain/engine/step.py",
        "torch.cat(by_rank, dim=1).flatten(0, 1)",
        "torch.cat(by_rank, dim=1).transpose(0, 1).flatten(0, 1)",
        "keys of several ranks enter the queue in another order",
        _RANKS,
    ),
)
