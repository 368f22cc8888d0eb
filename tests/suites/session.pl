# SPDX-License-Identifier: MIT
# For perl: texts and hashes, regular expressions, sorting, structures stored and read, children by fork. Prints digests.
use strict;
use warnings;
use Digest::MD5 qw(md5_hex);
use Storable qw(freeze thaw dclone);

my $state = 20260801;
sub random { $state = ($state * 1103515245 + 12345) % 2147483648; return int($state / 65536) % $_[0]; }

my @words = map { my $head = $_; map { $head . $_ } qw(an ic om ute y) } qw(al ber cor dun el for);
sub line { return join ' ', map { $words[random(scalar @words)] } 0 .. 3 + random(9); }

sub texts {
    my ($count) = @_;
    $Storable::canonical = 1;
    my (%places, @kept);
    for my $number (1 .. $count) {
        my $text = line();
        push @{$places{$1}}, $number while $text =~ /\b(\w+om)\b/g;
        $text =~ s/(\w+)ic (\w+)/ucfirst($2) . "-$1"/ge;
        $text .= lc(reverse $text) if $number % 7 == 0;
        push @kept, $text;
        splice @kept, random(scalar @kept), 50 if @kept > 20000;
    }
    my @sorted = sort { length($a) <=> length($b) or $a cmp $b } @kept;
    my $copy = thaw(freeze(dclone({ places => \%places, kept => \@sorted })));
    my $told = join '|', map { "$_:" . scalar @{$copy->{places}{$_}} } sort keys %{$copy->{places}};
    return md5_hex(join "\n", @{$copy->{kept}}) . " " . md5_hex($told) . " " . scalar @sorted;
}

print "texts ", texts(100000), "\n";

my %tree;
for my $number (1 .. 150000) {
    $tree{random(300)}{random(300)}{"key$number"} = [$number, "x" x ($number % 60)];
    delete $tree{random(300)} if $number % 400 == 0;
}
print "tree ", scalar(keys %tree), " ", md5_hex(join ',', map { scalar keys %{$tree{$_}} } sort keys %tree), "\n";

my $long = '';
$long .= line() . "\n" for 1 .. 60000;
my %count;
$count{$_}++ for split /\s+/, $long;
print "long ", length($long), " ", md5_hex(join ',', map { "$_=$count{$_}" } sort keys %count), "\n";
(my $packed = unpack 'H*', pack 'N*', map { random(65536) } 1 .. 100000) =~ tr/0-9a-f/a-p/;
print "packed ", md5_hex($packed), "\n";

my @readers;
for my $number (1 .. 6) {
    pipe my $reader, my $writer or die;
    defined(my $child = fork) or die;
    if ($child == 0) {
        $state = $number;
        %tree = ();
        print $writer texts(20000), "\n";
        close $writer;
        exit $number;
    }
    close $writer;
    push @readers, [$reader, $child];
}
for my $pair (@readers) {
    my ($reader, $child) = @$pair;
    print "child ", scalar <$reader>;
    waitpid $child, 0;
    print "ended with ", $? >> 8, "\n";
}
print "after ", texts(20000), "\n";
