"""Names of the hub that a job gives, settled when its run begins: later attempts shall load the same weights."""

from __future__ import annotations

from steep.artifacts.commits import read_commits, record_commit
from steep.artifacts.hub import commit_of, is_directory_name, split_revision
from steep.spec.errors import InvalidModel
from steep.spec.stages import Stage
from steep.worker.context import Context


def settle_commits(context: Context) -> None:
    """Write down which commits the base and the tokenizer are, unless they lie on this machine or it is known already.

    Raises:
        InvalidModel: the hub gave nothing of that name.
    """
    from steep.model.files import find_tokenizer_directory

    base, run = context.spec.base, context.run
    begun = run.completion(Stage.PREPARE) is not None
    for model in (base.model, base.from_scratch.tokenizer if base.from_scratch else None):
        if model is None or is_directory_name(split_revision(model)[0]) or model in read_commits(run.base):
            continue
        try:
            commit = commit_of(find_tokenizer_directory(model))
        except InvalidModel:
            if begun:  # what is complete needs no model, and what does will say so
                continue
            raise
        if commit is not None:
            record_commit(run.base, model, commit, begun=begun)
            context.notice("hub_commit", f"{model} is commit {commit} for the whole of this run")
