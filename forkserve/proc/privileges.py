"""Becoming another user, for good (setuid(2), credentials(7))."""

import os
import pwd

from forkserve.errors import PrivilegeError


def drop_privileges(uid: int | None, gid: int | None) -> None:
    """Become ``uid`` and ``gid``, with the groups of that user; None leaves it as it is.

    Groups first, then the group, then the user: the other way round the process would have lost the
    right to change the rest. Everything is read back afterwards. Raises PrivilegeError.
    """
    if uid is None and gid is None:
        return
    groups = None
    try:
        if uid is not None:
            name, gid = _name_and_group(uid, gid)
        if os.geteuid() == 0:  # nobody else may; and then nothing changes
            assert gid is not None
            groups = os.getgrouplist(name, gid) if uid is not None and name else [gid]
            os.setgroups(groups)
        if gid is not None:
            os.setresgid(gid, gid, gid)
        if uid is not None:
            os.setresuid(uid, uid, uid)
    except OSError as error:
        raise PrivilegeError(
            f"cannot become user {uid} (`user`) and group {gid} (`group`): {error.strerror}. "
            "Start forkserve as root, or leave them out"
        ) from None
    _verify(uid, gid, groups)


def _name_and_group(uid: int, gid: int | None) -> tuple[str, int]:
    """The user's name, "" if it has none, and the group to take: the user's own by default."""
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        if gid is None:
            raise PrivilegeError(
                f"user {uid} has no entry in the user database; say which `group` to take"
            ) from None
        return "", gid
    return entry.pw_name, entry.pw_gid if gid is None else gid


def _verify(uid: int | None, gid: int | None, groups: list[int] | None) -> None:
    """Read back what was asked for, and try to get back what was given up."""
    if uid is not None and os.getresuid() != (uid, uid, uid):
        raise PrivilegeError(f"the process did not become user {uid}")
    if gid is not None and os.getresgid() != (gid, gid, gid):
        raise PrivilegeError(f"the process did not become group {gid}")
    if groups is not None and not set(os.getgroups()) <= {*groups}:
        raise PrivilegeError(f"the process has kept groups of its own: {os.getgroups()}")
    if uid:
        try:
            os.setuid(0)
        except PermissionError:
            return
        raise PrivilegeError(f"the process became user {uid} but can become root again")
