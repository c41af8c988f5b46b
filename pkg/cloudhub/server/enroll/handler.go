package enroll

import (
	"fmt"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"k8s.io/klog/v2"

	"github.com/cloudcore-io/cloudcore/pkg/cloudhub/pki"
)

// A route as metric label.
type route string

const (
	routeCA          route = "ca"
	routeEdgeCert    route = "edge_cert"
	routeNode        route = "node"
	routeTaskStatus  route = "task_status"
	routeNodeUpgrade route = "node_upgrade"
	routeOther       route = "other"
)

func routes() []route {
	return []route{routeCA, routeEdgeCert, routeNode, routeTaskStatus, routeNodeUpgrade, routeOther}
}

const (
	textType = "text/plain; charset=utf-8"
	certType = "application/pkix-cert"
)

// reply is a whole answer.
type reply struct {
	code     int
	mimeType string
	body     []byte

	// refused is set when a join was refused, and says why for metrics and log.
	refused pki.Reason
}

func text(code int, format string, args ...any) reply {
	return reply{code: code, mimeType: textType, body: fmt.Appendf(nil, format, args...)}
}

// endpoint answers one route.
type endpoint struct {
	route  route
	method string
	limit  *buckets
	answer func(*http.Request) reply
}

func (s *Server) routes() *http.ServeMux {
	mux := http.NewServeMux()
	for pattern, e := range map[string]endpoint{
		"/ca.crt":      {routeCA, http.MethodGet, s.lookups, s.caCertificate},
		"/edge.crt":    {routeEdgeCert, http.MethodGet, s.joins, s.nodeCertificate},
		"/node/{name}": {routeNode, http.MethodGet, s.lookups, s.nodeCheck},
		"/nodeupgrade": {routeNodeUpgrade, http.MethodPost, s.reports, s.legacyUpgradeReport},
		"/task/{taskType}/name/{taskID}/node/{nodeID}/status": {routeTaskStatus, http.MethodPost, s.reports, s.taskReport},
	} {
		mux.Handle(pattern, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, e) }))
	}
	other := endpoint{route: routeOther, limit: s.lookups, answer: func(*http.Request) reply {
		return text(http.StatusNotFound, "404: Page Not Found")
	}}
	mux.Handle("/", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, other) }))
	return mux
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// serve decides, answers and counts; e.answer neither writes nor logs refusals.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, e endpoint) {
	start := time.Now()
	answer := s.decide(w, r, e)
	s.metrics.requests.WithLabelValues(string(e.route), strconv.Itoa(answer.code)).Inc()
	s.metrics.duration.WithLabelValues(string(e.route)).Observe(time.Since(start).Seconds())
	if e.route == routeEdgeCert && answer.refused != "" {
		s.metrics.joinsRefused.WithLabelValues(string(answer.refused)).Inc()
	}
	if answer.code >= http.StatusBadRequest && answer.code != http.StatusNotFound {
		klog.FromContext(r.Context()).V(2).Info("Request refused", "route", e.route, "code", answer.code, "reason", answer.refused,
			"node", shorten(r.Header.Get(headerNodeName)), "address", r.RemoteAddr)
	}
	header := w.Header()
	header.Set("Content-Type", answer.mimeType)
	header.Set("Content-Length", strconv.Itoa(len(answer.body)))
	header.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(answer.code)
	_, _ = w.Write(answer.body) // the peer has gone: nobody is left to tell
}

// decide is the border at which a panic ends.
func (s *Server) decide(w http.ResponseWriter, r *http.Request, e endpoint) (answer reply) {
	defer func() {
		if cause := recover(); cause != nil {
			s.metrics.panics.Inc()
			klog.FromContext(r.Context()).Error(fmt.Errorf("panic: %v", cause), "Request failed", "route", e.route, "stack", string(debug.Stack()))
			answer = text(http.StatusInternalServerError, "internal error")
		}
	}()
	if !e.limit.allow(origin(r.RemoteAddr), time.Now()) {
		w.Header().Set("Retry-After", "5")
		answer = text(http.StatusTooManyRequests, "too many requests from this address")
		answer.refused = reasonRateLimited
		return answer
	}
	if e.method != "" && r.Method != e.method {
		w.Header().Set("Allow", e.method)
		return text(http.StatusMethodNotAllowed, "405: Method Not Allowed")
	}
	return e.answer(r)
}

// shorten keeps what a peer wrote from filling the log.
func shorten(s string) string { return s[:min(len(s), 64)] }

// internalError answers 500 and logs the cause, which is ours.
func internalError(r *http.Request, err error, message, public string) reply {
	klog.FromContext(r.Context()).Error(err, message, "address", r.RemoteAddr)
	return text(http.StatusInternalServerError, "%s", public)
}

// caCertificate is what an edge compares with the first part of its token (spec 02 §6).
func (s *Server) caCertificate(r *http.Request) reply {
	der, err := s.deps.Issuer.CACertificate()
	if err != nil {
		return internalError(r, err, "CA certificate not served", "CA is not available")
	}
	return reply{code: http.StatusOK, mimeType: certType, body: der}
}

// nodeCheck answers keadm, which joins only after a 404 (spec 02 §6.2): a name that no node can have does not exist
// either.
func (s *Server) nodeCheck(r *http.Request) reply {
	name := r.PathValue("name")
	if name == "" || len(name) > maxName {
		return text(http.StatusBadRequest, "a node name has 1 to %d characters", maxName)
	}
	exists, err := s.deps.Nodes.NodeExists(r.Context(), name)
	switch {
	case err != nil:
		return internalError(r, err, "Node lookup failed", "Failed to query node information")
	case !exists:
		return text(http.StatusNotFound, "Node not found")
	default:
		return text(http.StatusOK, "Node founded")
	}
}
