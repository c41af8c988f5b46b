// Package enroll is the HTTPS server on which nodes get and renew their certificates (spec 02 §6): the CA for everybody,
// a certificate for whoever shows a bootstrap token or the certificate to be renewed, the check for a taken node name
// that keadm makes before it joins a node, and the reports of task executors.
//
// Client certificates are asked for but not verified by TLS, because a bad one must get an HTTP answer; each route that
// needs one verifies it. All bodies, headers and times are bounded, and the certificate routes are rate-limited for each
// address, with bursts wide enough for a whole site behind one address to join at once.
package enroll

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"k8s.io/klog/v2"

	"github.com/cloudcore-io/cloudcore/pkg/cloudhub/pki"
)

// Authority is what the server needs of the CA.
type Authority interface {
	CACertificate() ([]byte, error)
	VerifyToken(bearer string) (pki.TokenClaims, error)
	VerifyPeer(certs []*x509.Certificate) (pki.Peer, error)
	VerifyRenewal(certs []*x509.Certificate) (pki.Peer, error)
	IssueNodeCertificate(req pki.NodeRequest) ([]byte, error)
}

// Report is the result of one task on one node, as the body of a request.
type Report struct {
	Task, Type, Node string
	Body             json.RawMessage
}

// Deps are what the server asks others.
type Deps struct {
	Authority Authority
	// NodeExists answers from a cache.
	NodeExists func(name string) bool
	// Report takes the report of a task.
	Report func(ctx context.Context, r Report) error
}

const (
	maxReport     = 3 << 20 // spec 02 §6.3
	maxExtUsages  = 256
	nodeNameField = "Nodename"
)

// Handler returns the routes of the server.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ca.crt", s.counted("ca.crt", s.ca))
	mux.HandleFunc("GET /edge.crt", s.counted("edge.crt", s.limited(s.certificate)))
	mux.HandleFunc("GET /node/{node}", s.counted("node", s.limited(s.node)))
	mux.HandleFunc("POST /task/{type}/name/{task}/node/{node}/status", s.counted("task", s.task))
	mux.HandleFunc("POST /nodeupgrade", s.counted("nodeupgrade", s.nodeUpgrade))
	return mux
}

// problem is an answer other than success.
type problem struct {
	status int
	text   string
	err    error // for the log
}

func (p *problem) Error() string { return p.text }

func fail(status int, text string, err error) error {
	return &problem{status: status, text: text, err: err}
}

// counted makes a handler of a function that returns its problem.
func (s *Server) counted(route string, f func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		err := f(w, r)
		status := http.StatusOK
		if err != nil {
			p := &problem{status: http.StatusInternalServerError, text: "internal error", err: err}
			_ = errors.As(err, &p) // keeps the internal error if it is none of ours
			status = p.status
			klog.FromContext(r.Context()).V(2).Info("Request refused", "route", route, "remote", r.RemoteAddr, "status", status, "reason", p.text, "err", p.err)
			http.Error(w, p.text, status)
		}
		s.metrics.requests.WithLabelValues(route, fmt.Sprint(status)).Inc()
	}
}

// limited refuses an address that asks too often.
func (s *Server) limited(f func(http.ResponseWriter, *http.Request) error) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		host, _, err := net.SplitHostPort(r.RemoteAddr)
		if err == nil && !s.limits.allow(host, time.Now()) {
			w.Header().Set("Retry-After", "10")
			return fail(http.StatusTooManyRequests, "too many requests from this address", nil)
		}
		return f(w, r)
	}
}

func (s *Server) ca(w http.ResponseWriter, _ *http.Request) error {
	der, err := s.deps.Authority.CACertificate()
	if err != nil {
		return err
	}
	_, _ = w.Write(der)
	return nil
}

// certificate signs the request in the body for the node of the header (spec 02 §6.1). A client certificate, if there
// is one, decides alone; otherwise the bootstrap token does.
func (s *Server) certificate(w http.ResponseWriter, r *http.Request) error {
	node := r.Header.Get(nodeNameField)
	if err := s.mayEnroll(r, node); err != nil {
		return err
	}
	usages, err := extKeyUsages(r.Header.Get("Extkeyusages"))
	if err != nil {
		return fail(http.StatusInternalServerError, "header ExtKeyUsages: "+err.Error(), err)
	}
	csr, err := io.ReadAll(http.MaxBytesReader(w, r.Body, pki.MaxRequest))
	if err != nil {
		return fail(http.StatusBadRequest, "cannot read the certificate request", err)
	}
	der, err := s.deps.Authority.IssueNodeCertificate(pki.NodeRequest{Node: node, CSR: csr, ExtKeyUsages: usages})
	if refused := (*pki.RefusalError)(nil); errors.As(err, &refused) {
		return fail(http.StatusForbidden, err.Error(), err)
	}
	if err != nil {
		return err
	}
	_, _ = w.Write(der)
	return nil
}

func (s *Server) mayEnroll(r *http.Request, node string) error {
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		peer, err := s.deps.Authority.VerifyRenewal(r.TLS.PeerCertificates)
		if err != nil {
			return fail(http.StatusUnauthorized, "client certificate: "+err.Error(), err)
		}
		if !peer.MayActAs(node) {
			return fail(http.StatusUnauthorized, fmt.Sprintf("client certificate is not of node %q", node), nil)
		}
		// A certificate that renews itself past its end must belong to a node that still exists (spec 02 D19).
		if peer.Expired && !s.deps.NodeExists(node) {
			return fail(http.StatusUnauthorized, "client certificate has expired", nil)
		}
		return nil
	}
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || scheme == "" || strings.Contains(token, " ") {
		return fail(http.StatusUnauthorized, "neither a client certificate nor a bearer token", nil)
	}
	claims, err := s.deps.Authority.VerifyToken(token)
	if err != nil {
		return fail(http.StatusUnauthorized, "token validation failure: "+err.Error(), err)
	}
	if claims.Node != "" && claims.Node != node {
		return fail(http.StatusUnauthorized, "token is for another node", nil)
	}
	return nil
}

// extKeyUsages parses the header of external tools: a JSON array of the numbers that Go's x509 gives the usages.
func extKeyUsages(header string) ([]x509.ExtKeyUsage, error) {
	if header == "" {
		return nil, nil
	}
	if len(header) > maxExtUsages {
		return nil, errors.New("too long")
	}
	var numbers []x509.ExtKeyUsage
	if err := json.Unmarshal([]byte(header), &numbers); err != nil {
		return nil, errors.New("not a list of numbers")
	}
	return numbers, nil
}

func (s *Server) node(w http.ResponseWriter, r *http.Request) error {
	if !s.deps.NodeExists(r.PathValue("node")) {
		return fail(http.StatusNotFound, "Node not found", nil)
	}
	_, err := io.WriteString(w, "Node founded") // the text that the route has always had (spec 02 §6)
	return ignoreWrite(err)
}

// ignoreWrite drops the error of writing an answer: the client has gone.
func ignoreWrite(error) error { return nil }

func (s *Server) task(w http.ResponseWriter, r *http.Request) error {
	return s.report(w, r, func(body json.RawMessage) (Report, error) {
		return Report{Task: r.PathValue("task"), Type: r.PathValue("type"), Node: r.PathValue("node"), Body: body}, nil
	})
}

// nodeUpgrade takes reports of EdgeCore 1.15 and older (spec 02 §6.4).
func (s *Server) nodeUpgrade(w http.ResponseWriter, r *http.Request) error {
	return s.report(w, r, func(body json.RawMessage) (Report, error) {
		var old struct{ UpgradeID, NodeName, Status, Reason string }
		if err := json.Unmarshal(body, &old); err != nil {
			return Report{}, err
		}
		outcomes := map[string][2]string{
			"upgrade_success":                 {"Upgrade", "Success"},
			"upgrade_failed_rollback_success": {"Rollback", "Failure"},
			"upgrade_failed_rollback_failed":  {"Rollback", "Success"},
		}
		outcome, ok := outcomes[old.Status]
		if !ok || old.UpgradeID == "" || old.NodeName == "" {
			return Report{}, errors.New("UpgradeID, NodeName or Status is missing or unknown")
		}
		translated, err := json.Marshal(map[string]string{
			"NodeName": old.NodeName, "Event": outcome[0], "Action": outcome[1], "Reason": old.Reason,
		})
		return Report{Task: old.UpgradeID, Type: "upgrade", Node: old.NodeName, Body: translated}, err
	})
}

func (s *Server) report(w http.ResponseWriter, r *http.Request, read func(json.RawMessage) (Report, error)) error {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return fail(http.StatusUnauthorized, "no client certificate", nil)
	}
	peer, err := s.deps.Authority.VerifyPeer(r.TLS.PeerCertificates)
	if err != nil {
		return fail(http.StatusUnauthorized, "client certificate: "+err.Error(), err)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxReport))
	if err != nil || !json.Valid(body) {
		return fail(http.StatusBadRequest, "body is not JSON of at most 3 MiB", err)
	}
	report, err := read(body)
	if err != nil {
		return fail(http.StatusBadRequest, err.Error(), err)
	}
	if !peer.MayActAs(report.Node) {
		return fail(http.StatusForbidden, fmt.Sprintf("client certificate is not of node %q", report.Node), nil)
	}
	if err := s.deps.Report(r.Context(), report); err != nil {
		return fail(http.StatusServiceUnavailable, "report cannot be taken now", err)
	}
	_, err = io.WriteString(w, "ok")
	return ignoreWrite(err)
}
