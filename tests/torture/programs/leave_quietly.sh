# Leaves a child in the background that holds no pipe: nobody has to wait for it.
sleep "600.$2" </dev/null >/dev/null 2>&1 &
echo "$2" >"$1"
[ "$3" = leave ] || exec sleep "600.$2"
