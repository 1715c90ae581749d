# Says that it is there, and is gone.
echo "$2" >"$1"
exit 7
