# Writes a small data base of places in the MaxMind DB format: perl write.pl FILE KIND, where KIND is city, moved or ipv4.
use strict;
use utf8;
use warnings;
use MaxMind::DB::Writer::Tree;

my ($file, $kind) = @ARGV;
my %types = (
    code         => 'utf8_string',
    country      => 'map',
    is_anonymous => 'boolean',
    iso_code     => 'utf8_string',
    latitude     => 'double',
    location     => 'map',
    longitude    => 'double',
    postal       => 'map',
    traits       => 'map',
);
my $tree = MaxMind::DB::Writer::Tree->new(
    database_type            => 'Test-City',
    description              => { en => "Places of $kind" },
    ip_version               => $kind eq 'ipv4' ? 4 : 6,
    languages                => ['en'],
    map_key_type_callback    => sub { $types{ $_[0] } },
    record_size              => $kind eq 'ipv4' ? 24 : 28,
    remove_reserved_networks => 0,
);

sub place {
    my ($country, $code, $latitude, $longitude) = @_;
    my %place;
    $place{country}  = { iso_code => $country } if defined $country;
    $place{postal}   = { code     => $code }    if defined $code;
    $place{location} = { latitude => $latitude, longitude => $longitude } if defined $latitude;
    return \%place;
}

$tree->insert_network('192.0.2.0/25', $kind eq 'moved' ? place('AT', '1010', 48.2, 16.37) : place('CH', '8001', 47.37, 8.54));
$tree->insert_network('192.0.2.128/25',  place('US', 'K1A "0B1', -33.8688, -151.2093123456789));
$tree->insert_network('198.51.100.0/24', place('DE'));
$tree->insert_network('203.0.113.0/25',  place(undef, undef, 0, 10));
$tree->insert_network('203.0.113.128/25', { traits => { is_anonymous => 1 } });
$tree->insert_network('2001:db8::/112', place('JP', '100-0001', 35, 139.69171)) if $kind ne 'ipv4';
$tree->insert_network('2001:db8:1::/48', place('IS', 'ÞÓR 1', 64.1355, -0.0001)) if $kind ne 'ipv4';

open my $handle, '>:raw', $file or die "$file: $!";
$tree->write_tree($handle);
close $handle or die "$file: $!";
