"""From a job to the asset that its market is, of a model that describes several."""

from pathlib import Path

from calibrate.errors import Problem, UserError
from calibrate.job import LoadedJob
from calibrate.market.joint_files import JointModel, is_joint, read_joint


def asset_of(loaded: LoadedJob, path: Path) -> tuple[JointModel, str]:
    """The joint model in a file, and which of its assets the job is about."""
    asset, place = loaded.job.market.asset, f"{loaded.path}: market.asset"
    if not is_joint(path):
        todo = "choose a model of several assets" if asset is None else "remove it, or choose a model of several assets"
        found = "none" if asset is None else repr(asset)
        raise UserError([Problem(place, f"found {found}, and {path.name} describes one market; {todo}")])
    joint = read_joint(path)
    listed = ", ".join(joint.assets)
    if asset is None:
        raise UserError([Problem(place, f"missing; {path.name} describes {listed}: choose one of them")])
    if asset not in joint.assets:
        raise UserError([Problem(place, f"found {asset!r}; expected one of {listed}, which {path.name} describes")])
    return joint, asset
