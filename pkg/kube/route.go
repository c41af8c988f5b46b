package kube

import (
	"net/http"
	"strings"
)

// Labels of requests. They are closed sets: a path is chosen by edges (through the dynamic
// controller) and must not make new series.
const (
	otherLabel  = "other"       // a resource or verb that is in no list
	nonResource = "nonresource" // discovery, version, health
)

// knownResources are the resources that cloudcore itself works with.
var knownResources = labelSet(
	"certificatesigningrequests", "clusterobjectsyncs", "clusterrolebindings", "clusterroles", "configmaps", "configupdatejobs",
	"customresourcedefinitions", "devicemodels", "devices", "devicestatuses", "endpoints", "endpointslices", "events",
	"imageprepulljobs", "leases", "namespaces", "nodes", "nodeupgradejobs", "objectsyncs", "persistentvolumeclaims",
	"persistentvolumes", "pods", "rolebindings", "roles", "ruleendpoints", "rules", "secrets", "selfsubjectaccessreviews",
	"serviceaccountaccesses", "serviceaccounts", "services", "volumeattachments",
)

var knownSubresources = labelSet("approval", "binding", "eviction", "finalize", "log", "scale", "status", "token")

// labelSet maps a name to itself, so that a label never keeps a request's path alive.
func labelSet(names ...string) map[string]string {
	set := make(map[string]string, len(names))
	for _, n := range names {
		set[n] = n
	}
	return set
}

// route is what a request asks for, in the words of Kubernetes.
type route struct {
	verb, resource, subresource string
}

// routeOf reads method and path of an API request. It doesn't allocate.
func routeOf(r *http.Request) route {
	resource, name, sub, ok := splitPath(r.URL.Path)
	if !ok {
		return route{verb: methodVerb(r, true), resource: nonResource}
	}
	out := route{verb: methodVerb(r, name), resource: otherLabel}
	if known, ok := knownResources[resource]; ok {
		out.resource = known
	}
	if sub != "" {
		out.subresource = otherLabel
		if known, ok := knownSubresources[sub]; ok {
			out.subresource = known
		}
	}
	return out
}

// splitPath takes a path of the form [/prefix]/api/VERSION/... or [/prefix]/apis/GROUP/VERSION/...
// apart. ok is false if no resource is in it.
func splitPath(path string) (resource string, named bool, sub string, ok bool) {
	segments := segmentsAfterVersion(path)
	first, rest := next(segments)
	if first == "" {
		return "", false, "", false
	}
	if first == "namespaces" {
		_, inner := next(rest) // the namespace
		if second, deeper := next(inner); second != "" && second != "status" && second != "finalize" {
			first, rest = second, deeper
		}
	}
	name, rest := next(rest)
	sub, _ = next(rest)
	return first, name != "", sub, true
}

// segmentsAfterVersion returns what follows /api/VERSION/ or /apis/GROUP/VERSION/. A server
// behind a proxy has a prefix before that.
func segmentsAfterVersion(path string) string {
	for path != "" {
		var segment string
		segment, path = next(path)
		skip := 0
		switch segment {
		case "api":
			skip = 1
		case "apis":
			skip = 2
		default:
			continue
		}
		for range skip {
			_, path = next(path)
		}
		return path
	}
	return ""
}

// next cuts the first segment off a path.
func next(path string) (segment, rest string) {
	path = strings.TrimPrefix(path, "/")
	segment, rest, _ = strings.Cut(path, "/")
	return segment, rest
}

func methodVerb(r *http.Request, named bool) string {
	switch r.Method {
	case http.MethodGet:
		switch {
		case strings.Contains(r.URL.RawQuery, "watch=true"), strings.Contains(r.URL.RawQuery, "watch=1"):
			return "watch"
		case named:
			return "get"
		default:
			return "list"
		}
	case http.MethodPost:
		return "create"
	case http.MethodPut:
		return "update"
	case http.MethodPatch:
		return "patch"
	case http.MethodDelete:
		if named {
			return "delete"
		}
		return "deletecollection"
	default:
		return otherLabel
	}
}
