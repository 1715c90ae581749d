# A child that leads a session of its own and keeps environment and pipes.
use strict;
use POSIX ();
my ($ready, $mark, $ending) = @ARGV;
pipe my $heard, my $told;
if (!fork) {
    close $heard;
    POSIX::setsid();
    open(my $pipe, '>', $ready);
    print $pipe "$mark\n";
    close $pipe;
    close $told;
    sleep 600;
    exit;
}
close $told;
<$heard>;    # until it has escaped
sleep 600 unless $ending eq 'leave';
