"""The texts of `aiocmdpool run --help`."""

DESCRIPTION = """\
Run PROGRAM once for each input, several at a time. Inputs are the lines of standard input, of FILE (-a), or the
arguments after ':::'. Options come before PROGRAM; everything after it belongs to the command.
"""

EPILOG = """\
placeholders:
  {}    the input                    a/b.tar.gz
  {.}   without extension            a/b.tar
  {/}   last component               b.tar.gz
  {//}  directory                    a
  {/.}  last component, without ext. b.tar
  {#}   number of the input, from 1
  Without any, the input is added as the last argument. No shell is involved; with --shell the command is joined
  into a script and the inputs are its positional parameters, so nothing in them is interpreted. With -I STR only
  STR is replaced, by the input; all else stays as it is. ':::: FILE' after the command is -a FILE.

stopping:
  Ctrl-C once starts nothing more and lets running commands finish; twice, or SIGTERM, ends them (TERM, then KILL
  after --grace); three times kills them. Ctrl-Z stops them, too, and holds their --timeout. --halt does the same
  after failures: soon lets running commands finish, now ends them. A percentage is of the finished commands, and
  counts from the third failure on. What a command leaves running when it exits is ended, and told; with --detach
  it is left alone, and should write to a file.

output:
  Not a byte is changed. What is large is kept in a file without a name in TMPDIR (or /var/tmp) until it can be
  written. The progress bar stays away from a terminal that others write to: where standard output is a pipe (unless
  --progress asks for it), and in the background.

job log:
  --joblog starts FILE anew, unless --resume or --resume-failed continue it. A command is known by what it is: inputs
  may be added, left out and sorted. With -k a command is in the log as soon as it has ended, before its output.

trace:
  --trace starts FILE anew, in the JSON format of Chrome's trace events: a row for each command that runs beside
  others, and the time each waited in the queue. It can be opened whatever has ended the run. It cannot be a pipe.

exit status:
  0 all succeeded; 1-100 that many failed; 101 more; 126 the program cannot be executed; 127 there is no such
  program; 130 stopped by Ctrl-C; 141 nobody reads our output; 143 stopped by SIGTERM; 255 usage, input or output
  errors.

examples:
  find . -name '*.png' -print0 | aiocmdpool run -0 -j 8 optipng {}
  aiocmdpool run --timeout 60 --retries 2 --joblog log curl -fsSO {} ::: https://example.org/{a,b}
  aiocmdpool run --trace trace.json -j 4 gzip -k ::: *.log
  aiocmdpool run -a names.txt --shell 'sort {} | uniq -c > {.}.counts'
"""
