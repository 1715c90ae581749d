# A grandchild that ignores TERM and holds the pipes.
(trap '' TERM; sleep "600.$2"; :) &
echo "$2" >"$1"
[ "$3" = leave ] || exec sleep "600.$2"
