# Writes without end to stdout, and with argv[4] `both` to stderr as well. A broken pipe does not end it.
use strict;
my ($ready, $mark, $ending, $streams) = @ARGV;
$SIG{PIPE} = 'IGNORE';
setpriority 0, 0, 19;    # whatever is idle is enough: it is to flood, not to slow others down
open(my $pipe, '>', $ready);
print $pipe "$mark\n";
close $pipe;
my $block = 'x' x 65536;
my $end = time + 600;
while (time < $end) {
    my $written = syswrite STDOUT, $block;
    $written = syswrite STDERR, $block if $streams eq 'both';
    select undef, undef, undef, 0.01 unless $written;
}
