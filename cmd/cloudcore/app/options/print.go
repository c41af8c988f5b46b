package options

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"reflect"
	"strconv"
	"strings"

	yaml "go.yaml.in/yaml/v2"

	"github.com/cloudcore-io/cloudcore/pkg/apis/componentconfig/v1alpha1"
)

// commentWidth is where comments wrap, counted with their indent.
const commentWidth = 110

// minimalKeys are the keys of the minimal file; naming a section takes all of it. kubeAPIConfig
// and cloudHub.enable are there so that the file works as printed (spec 01 §5).
var minimalKeys = map[string]bool{
	"apiVersion":                         true,
	"kind":                               true,
	"kubeAPIConfig.master":               true,
	"kubeAPIConfig.kubeConfig":           true,
	"modules.cloudHub.enable":            true,
	"modules.cloudHub.nodeLimit":         true,
	"modules.cloudHub.tlsCAFile":         true,
	"modules.cloudHub.tlsCAKeyFile":      true,
	"modules.cloudHub.tlsCertFile":       true,
	"modules.cloudHub.tlsPrivateKeyFile": true,
	"modules.cloudHub.advertiseAddress":  true,
	"modules.cloudHub.unixsocket":        true,
	"modules.cloudHub.websocket":         true,
	"modules.cloudHub.https":             true,
	"modules.router":                     true,
	"modules.iptablesManager":            true,
}

// PrintMinimal writes the smallest file worth having, with a comment for each key. address is
// the address of this host; nil leaves the list empty, which means "detect at start".
func PrintMinimal(w io.Writer, address net.IP) error {
	return printConfig(w, v1alpha1.Minimal(), address, minimalKeys, []string{
		"A small configuration of cloudcore, ready to use.",
		"Every key that is absent has its default; cloudcore --defaultconfig shows them all.",
		"Without a kubeConfig, cloudcore uses the service account of the pod that it runs in.",
	})
}

// PrintDefault writes every key with its default and a comment.
func PrintDefault(w io.Writer, address net.IP) error {
	return printConfig(w, v1alpha1.Default(), address, nil, []string{
		"All settings of cloudcore with their defaults, ready to use.",
		"Keep only what you change: absent keys follow the defaults of the running release.",
		"Without a kubeConfig, cloudcore uses the service account of the pod that it runs in.",
	})
}

func printConfig(w io.Writer, cfg *v1alpha1.CloudCoreConfig, address net.IP, keys map[string]bool, head []string) error {
	if address != nil {
		cfg.Modules.CloudHub.AdvertiseAddress = []string{address.String()}
	}
	var p printer
	p.keys = keys
	for _, line := range head {
		fmt.Fprintf(&p.out, "# %s\n", line)
	}
	fmt.Fprintln(&p.out)
	p.object("", "", reflect.ValueOf(*cfg), reflect.ValueOf(*v1alpha1.Default()))
	fmt.Fprint(&p.out, "\n\n")
	_, err := w.Write(p.out.Bytes())
	return err
}

// printer writes a configuration as block YAML.
type printer struct {
	out  bytes.Buffer
	keys map[string]bool // what to print; nil is everything
}

// wants reports whether a key is printed: it is named, lies in a named section, or holds one.
func (p *printer) wants(path string) bool {
	if p.keys == nil {
		return true
	}
	for name := range p.keys {
		if name == path || strings.HasPrefix(path, name+".") || strings.HasPrefix(name, path+".") {
			return true
		}
	}
	return false
}

func (p *printer) object(indent, path string, v, defaults reflect.Value) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name := join(path, key(f))
		if !p.wants(name) {
			continue
		}
		p.comment(indent, f, name, defaults.Field(i))
		switch value := v.Field(i); value.Kind() {
		case reflect.Struct:
			fmt.Fprintf(&p.out, "%s%s:\n", indent, key(f))
			p.object(indent+"  ", name, value, defaults.Field(i))
		case reflect.Slice:
			p.list(indent, name, key(f), value)
		case reflect.Map:
			p.gates(indent, key(f), value)
		default:
			fmt.Fprintf(&p.out, "%s%s: %s\n", indent, key(f), scalar(value))
		}
	}
}

func (p *printer) list(indent, path, name string, v reflect.Value) {
	if v.Len() == 0 {
		fmt.Fprintf(&p.out, "%s%s: []\n", indent, name)
		return
	}
	fmt.Fprintf(&p.out, "%s%s:\n", indent, name)
	for i := range v.Len() {
		if e := v.Index(i); e.Kind() == reflect.Struct {
			fmt.Fprintf(&p.out, "%s-\n", indent)
			p.object(indent+"  ", path, e, e)
		} else {
			fmt.Fprintf(&p.out, "%s- %s\n", indent, scalar(e))
		}
	}
}

func (p *printer) gates(indent, name string, v reflect.Value) {
	if v.Len() == 0 {
		fmt.Fprintf(&p.out, "%s%s: {}\n", indent, name)
		return
	}
	fmt.Fprintf(&p.out, "%s%s:\n", indent, name)
	for _, k := range sortedKeys(v) {
		fmt.Fprintf(&p.out, "%s  %s: %s\n", indent, quote(k), scalar(v.MapIndex(reflect.ValueOf(k))))
	}
}

// comment says what the key is for, in which unit, and what its default is.
func (p *printer) comment(indent string, f reflect.StructField, path string, def reflect.Value) {
	text := f.Tag.Get("doc") + "."
	if unit := f.Tag.Get("unit"); unit != "" {
		text += " Unit: " + unit + "."
	}
	switch {
	case def.Kind() == reflect.Struct:
	case path == "modules.cloudHub.advertiseAddress":
		text += " Default: the address of the default route."
	default:
		text += " Default: " + inline(def) + "."
	}
	line := indent + "#"
	for word := range strings.FieldsSeq(text) {
		if len(line)+1+len(word) > commentWidth {
			fmt.Fprintln(&p.out, line)
			line = indent + "#"
		}
		line += " " + word
	}
	fmt.Fprintln(&p.out, line)
}

// inline writes a value for a comment, where text stands without line breaks.
func inline(v reflect.Value) string {
	data, err := json.Marshal(v.Interface())
	switch {
	case err != nil || string(data) == "null":
		return "none"
	case v.Kind() == reflect.String && v.Len() > 0:
		return v.String()
	default:
		return string(data)
	}
}

func scalar(v reflect.Value) string {
	if v.Kind() == reflect.String {
		return quote(v.String())
	}
	return fmt.Sprint(v.Interface())
}

// quote writes text so that it is read back as the same text on one line. Go's escapes are
// among those of YAML.
func quote(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) {
		return strconv.QuoteToASCII(s)
	}
	out, err := yaml.Marshal(s)
	if text := strings.TrimSuffix(string(out), "\n"); err == nil && !strings.Contains(text, "\n") {
		return text
	}
	return strconv.QuoteToASCII(s)
}
