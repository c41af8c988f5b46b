package v1alpha1

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	netutils "k8s.io/utils/net"
)

// Warning is something in a configuration that deserves attention but must not stop the start.
type Warning struct {
	Path    string // key, dotted from the top of the file; empty for the file as a whole
	Message string
}

func (w Warning) String() string {
	if w.Path == "" {
		return w.Message
	}
	return w.Path + ": " + w.Message
}

const advertisePath = "modules.cloudHub.advertiseAddress"

// CleanAddresses settles the names of the serving certificate (spec 01 §6.2): afterwards
// advertiseAddress holds valid, distinct IPs and dnsNames valid, distinct names, without blanks.
// Names that stand among the addresses move to the DNS names. With no address left, detect is
// asked for the address of this host; its failure is an error only if no DNS name is there
// either, and only while the hub is enabled.
func (h *CloudHub) CleanAddresses(detect func() (net.IP, error)) ([]Warning, error) {
	var warnings []Warning
	ips, moved := []string{}, []string{}
	for i, entry := range h.AdvertiseAddress {
		path := fmt.Sprintf("%s[%d]", advertisePath, i)
		entry = strings.TrimSpace(entry)
		switch ip := netutils.ParseIPSloppy(entry); {
		case entry == "":
		case ip != nil:
			ips = append(ips, ip.String())
		case isDNSName(entry):
			moved = append(moved, entry)
			warnings = append(warnings, Warning{path, fmt.Sprintf("%q is not an IP address, used as DNS name of the serving certificate", entry)})
		default:
			warnings = append(warnings, Warning{path, fmt.Sprintf("%q is neither an IP address nor a DNS name, ignored", entry)})
		}
	}
	names := []string{}
	for i, entry := range append(slices.Clone(h.DNSNames), moved...) {
		path := fmt.Sprintf("modules.cloudHub.dnsNames[%d]", i)
		entry = strings.TrimSpace(entry)
		switch {
		case entry == "":
		case !isCertificateName(entry):
			warnings = append(warnings, Warning{path, fmt.Sprintf("%q cannot stand in a certificate, ignored", entry)})
		default:
			if netutils.ParseIPSloppy(entry) != nil {
				warnings = append(warnings, Warning{path, fmt.Sprintf("%q is an IP address and belongs to advertiseAddress", entry)})
			}
			names = append(names, entry)
		}
	}
	h.AdvertiseAddress, h.DNSNames = distinct(ips), distinct(names)
	if len(h.AdvertiseAddress) > 0 || !h.Enable {
		return warnings, nil
	}

	ip, err := detect()
	if err == nil && ip == nil {
		err = errors.New("no address found")
	}
	switch {
	case err == nil:
		h.AdvertiseAddress = []string{ip.String()}
	case len(h.DNSNames) > 0:
		warnings = append(warnings, Warning{advertisePath, fmt.Sprintf("no address given and none detected, edge nodes can use only the DNS names: %v", err)})
	default:
		return warnings, fmt.Errorf("%s: Required value: no usable address given and the one of this host could not be detected, name the addresses under which edge nodes reach cloudcore: %w", advertisePath, err)
	}
	return warnings, nil
}

// isDNSName tells a name from a mistyped address: an all-digit last label is no top-level name.
func isDNSName(s string) bool {
	s = strings.ToLower(strings.TrimSuffix(s, "."))
	if strings.Trim(s[strings.LastIndexByte(s, '.')+1:], "0123456789") == "" {
		return false
	}
	return len(validation.IsDNS1123SubdomainWithUnderscore(s)) == 0 || len(validation.IsWildcardDNS1123Subdomain(s)) == 0
}

// isCertificateName accepts whatever x509 accepts as a DNS SAN, not only good names: files with
// odd ones have been working.
func isCertificateName(s string) bool {
	if len(s) > validation.DNS1123SubdomainMaxLength {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// distinct drops later repetitions and keeps the order.
func distinct(in []string) []string {
	out := make([]string, 0, len(in))
	for _, s := range in {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}
