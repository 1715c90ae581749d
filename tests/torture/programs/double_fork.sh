# A grandchild whose parent is gone; it stays in the group.
(sleep "600.$2" &)
echo "$2" >"$1"
[ "$3" = leave ] || exec sleep "600.$2"
