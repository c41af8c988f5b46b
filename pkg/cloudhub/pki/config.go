package pki

import (
	"crypto/x509"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
)

// Names of the Secrets and of their data keys, shared with the reference and with keadm (spec 02 §5).
const (
	DefaultNamespace = "kubeedge"

	CASecret     = "casecret"
	ServerSecret = "cloudcoresecret"
	TokenSecret  = "tokensecret"

	caCertKey     = "cadata"
	caKeyKey      = "cakeydata"
	serverCertKey = "cloudcoredata"
	serverKeyKey  = "cloudcorekeydata"
	tokenKey      = "tokendata"
)

const (
	day = 24 * time.Hour

	defaultNodeLifetime = 365 * day      // modules.cloudHub.edgeCertSigningDuration
	defaultTokenRefresh = 12 * time.Hour // modules.cloudHub.tokenRefreshDuration
)

// Config says where keys come from and what may be signed. The zero value of each field but AdvertiseAddresses has a
// usable meaning.
type Config struct {
	// Namespace of the three Secrets; "kubeedge" if empty. It is created when it does not exist.
	Namespace string

	// CAFile and CAKeyFile, CertFile and KeyFile are PEM files. A pair of which both files exist wins over the
	// Secret; one file without the other is an error; a pair that does not exist is read from the Secret or made.
	CAFile, CAKeyFile string
	CertFile, KeyFile string

	// AdvertiseAddresses are the addresses at which edges reach this cloudcore. Blank entries are skipped, and what
	// is not an IP address becomes a DNS name. At least one address or DNS name must remain.
	AdvertiseAddresses []string
	// DNSNames are further names of the serving certificate. Blank entries are skipped.
	DNSNames []string

	// NodeCertificateLifetime of what IssueNodeCertificate signs; 365 days if zero.
	NodeCertificateLifetime time.Duration
	// TokenRefresh is the age at which a token is replaced; it lives twice as long. 12 hours if zero.
	TokenRefresh time.Duration

	// AllowLegacyRequests signs requests of EdgeCore 1.15 and older, which name no node (CN kubeedge.io). The
	// certificate names the node for which the asker proved itself, and these releases take it, so no node gains
	// anything beyond its own name.
	AllowLegacyRequests bool
	// AllowLegacyCertificates accepts the certificates that older clouds gave for such requests. Their holder may act
	// as any node, so keep it off unless such nodes exist; once renewed, they are bound to their name. It implies
	// AllowLegacyRequests.
	AllowLegacyCertificates bool
	// ExpiredCertificateGrace is how long after its end a node certificate may still renew itself; 0 is never.
	// EdgeCore ignores a bootstrap token while it has a certificate, also an expired one, so without a grace such a
	// node needs hands on it.
	ExpiredCertificateGrace time.Duration
	// AllowedExtKeyUsages is what a node may ask for; client authentication only if empty.
	AllowedExtKeyUsages []x509.ExtKeyUsage
	// AllowNodeNameSAN lets a request carry one DNS name, the node's own. Otherwise any SAN is refused.
	AllowNodeNameSAN bool
}

// settings is a Config with defaults filled in and the names of the serving certificate parsed.
type settings struct {
	Config
	names serverNames
}

func (c Config) complete() (settings, error) {
	if c.Namespace == "" {
		c.Namespace = DefaultNamespace
	}
	if c.NodeCertificateLifetime == 0 {
		c.NodeCertificateLifetime = defaultNodeLifetime
	}
	if c.TokenRefresh == 0 {
		c.TokenRefresh = defaultTokenRefresh
	}
	if len(c.AllowedExtKeyUsages) == 0 {
		c.AllowedExtKeyUsages = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
	switch {
	case c.NodeCertificateLifetime < 0:
		return settings{}, fmt.Errorf("node certificate lifetime %s is negative", c.NodeCertificateLifetime)
	case c.TokenRefresh < time.Second:
		return settings{}, fmt.Errorf("token refresh period %s is shorter than a second", c.TokenRefresh)
	case c.ExpiredCertificateGrace < 0:
		return settings{}, fmt.Errorf("grace for expired certificates %s is negative", c.ExpiredCertificateGrace)
	}
	names, err := parseServerNames(c.AdvertiseAddresses, c.DNSNames)
	if err != nil {
		return settings{}, err
	}
	return settings{Config: c, names: names}, nil
}

// serverNames are the subject alternative names of a serving certificate, sorted and without duplicates.
type serverNames struct {
	ips []netip.Addr
	dns []string
}

func (n serverNames) equal(o serverNames) bool {
	return slices.Equal(n.ips, o.ips) && slices.Equal(n.dns, o.dns)
}

func (n serverNames) normalize() serverNames {
	slices.SortFunc(n.ips, netip.Addr.Compare)
	slices.Sort(n.dns)
	return serverNames{ips: slices.Compact(n.ips), dns: slices.Compact(n.dns)}
}

func parseServerNames(advertise, dnsNames []string) (serverNames, error) {
	var names serverNames
	for _, list := range []struct {
		key     string
		entries []string
	}{{"advertiseAddress", advertise}, {"dnsNames", dnsNames}} {
		for _, entry := range list.entries {
			if err := names.add(entry); err != nil {
				return serverNames{}, fmt.Errorf("%s entry %q: %w", list.key, entry, err)
			}
		}
	}
	if len(names.ips)+len(names.dns) == 0 {
		return serverNames{}, fmt.Errorf("advertiseAddress names no address: the serving certificate needs one")
	}
	return names.normalize(), nil
}

func (n *serverNames) add(entry string) error {
	entry = strings.TrimSpace(entry)
	// The reference writes a failed address detection into its configuration as "<nil>" (spec 01 §6.2).
	if entry == "" || entry == "<nil>" {
		return nil
	}
	if ip, err := netip.ParseAddr(entry); err == nil {
		if ip.Zone() != "" {
			return fmt.Errorf("an address with a zone cannot be part of a certificate")
		}
		n.ips = append(n.ips, ip.Unmap())
		return nil
	}
	name := strings.ToLower(strings.TrimSuffix(entry, "."))
	if !isDNSName(name) {
		return fmt.Errorf("neither an IP address nor a DNS name")
	}
	n.dns = append(n.dns, name)
	return nil
}

// isDNSName accepts host names and wildcards, and refuses what is rather a misspelt IP address: no top-level domain
// is a number.
func isDNSName(name string) bool {
	if len(validation.IsDNS1123Subdomain(name)) != 0 && len(validation.IsWildcardDNS1123Subdomain(name)) != 0 {
		return false
	}
	last := name[strings.LastIndexByte(name, '.')+1:]
	return strings.Trim(last, "0123456789") != ""
}

// certificateNames reads the names back. A certificate of the reference may hold an empty DNS name, which stands for
// its default dnsNames [""] and means nothing.
func certificateNames(cert *x509.Certificate) serverNames {
	var names serverNames
	for _, ip := range cert.IPAddresses {
		if addr, ok := netip.AddrFromSlice(ip); ok {
			names.ips = append(names.ips, addr.Unmap())
		}
	}
	for _, name := range cert.DNSNames {
		if name != "" {
			names.dns = append(names.dns, strings.ToLower(name))
		}
	}
	return names.normalize()
}
