# One sleeper in the background and one in the foreground, neither of which knows of the other.
sleep "600.$2" &
echo "$2" >"$1"
[ "$3" = leave ] || sleep "600.$2"
exit 0
