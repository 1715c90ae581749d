# setsid, double fork, every descriptor closed: a daemon. With argv[4] `forget` its environment is empty besides.
use strict;
use POSIX ();
my ($ready, $mark, $ending, $how) = @ARGV;
pipe my $heard, my $told;
if (!fork) {
    close $heard;
    POSIX::setsid();
    exit if fork;
    open(my $pipe, '>', $ready);
    print $pipe "$mark\n";
    close $pipe;
    POSIX::close($_) for 0 .. 255;
    if ($how eq 'forget') {
        %ENV = ();
        exec '/bin/sleep', "600.$mark";
    }
    sleep 600;
    exit;
}
close $told;
<$heard>;    # until it has escaped
sleep 600 unless $ending eq 'leave';
