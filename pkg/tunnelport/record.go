package tunnelport

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/util/sets"
)

// Names of the shared object (spec 01 §9).
const (
	ConfigMapName    = "tunnelport"
	RecordAnnotation = "tunnelportrecord.kubeedge.io"
	// PodsAnnotation holds a JSON list of those addresses in the record that are pod addresses.
	PodsAnnotation = "tunnelport.cloudcore.io/pod-addresses"
)

const (
	firstPort = 10351 // 10350 is the default of the configuration and never given out
	lastPort  = 65535
)

// Record is the content of the annotation.
type Record struct {
	IPTunnelPort map[string]int `json:"ipTunnelPort"`
	Port         map[int]bool   `json:"port"`
}

// ParseRecord reads an annotation value. What is missing, also all of it, is empty.
func ParseRecord(text string) (Record, error) {
	var r Record
	if text != "" {
		if err := json.Unmarshal([]byte(text), &r); err != nil {
			return Record{}, fmt.Errorf("parse annotation %s: %w", RecordAnnotation, err)
		}
	}
	if r.IPTunnelPort == nil {
		r.IPTunnelPort = map[string]int{}
	}
	if r.Port == nil {
		r.Port = map[int]bool{}
	}
	return r, nil
}

// String is the annotation value.
func (r Record) String() string {
	text, _ := json.Marshal(r) // maps of numbers and strings always marshal
	return string(text)
}

// keep makes sure that the port which ip holds counts as given out. ok is false if ip holds no
// usable port, changed tells whether the record had to be mended.
func (r Record) keep(ip string) (port int, ok, changed bool) {
	port = r.IPTunnelPort[ip]
	if port < firstPort || port > lastPort {
		return 0, false, false
	}
	if r.Port[port] {
		return port, true, false
	}
	r.Port[port] = true
	return port, true, true
}

// assign gives ip the smallest free port.
func (r Record) assign(ip string) (int, error) {
	taken := sets.New(slices.Collect(maps.Values(r.IPTunnelPort))...)
	for port := firstPort; port <= lastPort; port++ {
		if _, given := r.Port[port]; given || taken.Has(port) {
			continue
		}
		r.IPTunnelPort[ip] = port
		r.Port[port] = true
		return port, nil
	}
	return 0, fmt.Errorf("no port from %d to %d is free", firstPort, lastPort)
}

// collect removes what nobody holds any more: addresses that are gone or empty, then ports
// without an address. The iptables manager never reads the ports (spec 01 §9).
func (r Record) collect(gone sets.Set[string]) {
	maps.DeleteFunc(r.IPTunnelPort, func(ip string, _ int) bool { return ip == "" || gone.Has(ip) })
	held := sets.New(slices.Collect(maps.Values(r.IPTunnelPort))...)
	maps.DeleteFunc(r.Port, func(port int, _ bool) bool { return !held.Has(port) })
}
