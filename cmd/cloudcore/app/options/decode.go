package options

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/cloudcore-io/cloudcore/pkg/apis/componentconfig/v1alpha1"
)

// Bounds of one file. A value beyond them is refused, a message beyond them is not produced.
const (
	maxWarnings = 100
	maxErrors   = 100
	maxEntries  = 1024 // of a list or of featureGates
	maxString   = 4096 // bytes; the longest path that Linux takes
)

// retired are keys of earlier releases, with what became of them.
var retired = map[string]string{
	"leaderelection":           "replicas are all active since 1.7",
	"context":                  "module names are fixed",
	"queryservice":             "edge nodes no longer ask for services this way",
	"queryendpoints":           "edge nodes no longer ask for endpoints this way",
	"serviceevent":             "services are no longer pushed this way",
	"endpointsevent":           "endpoints are no longer pushed this way",
	"queryserviceworkers":      "edge nodes no longer ask for services this way",
	"queryendpointsworkers":    "edge nodes no longer ask for endpoints this way",
	"nodeupgradejobcontroller": "taskManager took its place in 1.16",
	"imageprepullcontroller":   "taskManager took its place in 1.16",
}

// decoder writes a parsed file into a configuration. It collects instead of stopping, so that
// one run shows everything that is wrong.
type decoder struct {
	given    map[string]bool // dotted paths of the scalars that the file sets
	warnings []v1alpha1.Warning
	errs     []error
	dropped  int // messages beyond the bounds
}

func newDecoder() *decoder { return &decoder{given: map[string]bool{}} }

// document decodes the top of the file; nothing at all means defaults.
func (d *decoder) document(tree any, cfg *v1alpha1.CloudCoreConfig) {
	if tree == nil {
		return
	}
	if _, ok := tree.(map[any]any); !ok {
		d.errs = append(d.errs, fmt.Errorf("the file is not a map of keys to values but %s", describe(tree)))
		return
	}
	d.value("", tree, reflect.ValueOf(cfg).Elem())
	slices.SortStableFunc(d.warnings, func(a, b v1alpha1.Warning) int { return cmp.Compare(a.Path, b.Path) })
	if d.dropped > 0 {
		d.warnings = append(d.warnings, v1alpha1.Warning{Message: fmt.Sprintf("%d more messages are not shown", d.dropped)})
	}
}

func (d *decoder) err() error {
	if len(d.errs) == 0 {
		return nil
	}
	slices.SortStableFunc(d.errs, func(a, b error) int { return cmp.Compare(a.Error(), b.Error()) })
	return utilerrors.NewAggregate(d.errs)
}

func (d *decoder) warn(path, message string) {
	if len(d.warnings) >= maxWarnings {
		d.dropped++
		return
	}
	d.warnings = append(d.warnings, v1alpha1.Warning{Path: path, Message: message})
}

func (d *decoder) refuse(path string, node any, detail string) {
	if len(d.errs) >= maxErrors {
		d.dropped++
		return
	}
	var shown any = describe(node)
	switch node := node.(type) {
	case string:
		shown = clip(node)
	case bool, int, int64, uint64, float64:
		shown = node
	}
	err := field.Invalid(field.NewPath(path), shown, detail)
	d.errs = append(d.errs, err)
}

// value decodes node into out, which holds the default. null keeps the default.
func (d *decoder) value(path string, node any, out reflect.Value) {
	if node == nil {
		return
	}
	var err error
	switch out.Kind() {
	case reflect.Struct:
		d.object(path, node, out)
		return
	case reflect.Slice:
		d.list(path, node, out)
		return
	case reflect.Map:
		d.gates(path, node, out)
		return
	case reflect.Bool:
		err = setBool(node, out)
	case reflect.Int32, reflect.Int64:
		err = setInt(node, out)
	case reflect.Uint32:
		err = setUint(node, out)
	case reflect.String:
		err = setString(node, out)
	default:
		err = fmt.Errorf("keys of type %s cannot be read", out.Type())
	}
	d.given[path] = true
	if err != nil {
		d.refuse(path, node, err.Error())
	}
}

// object decodes a map into a struct. Of several spellings of one key the exact one has the
// last word; the others come before it in the order of their bytes.
func (d *decoder) object(path string, node any, out reflect.Value) {
	m, ok := node.(map[any]any)
	if !ok {
		d.refuse(path, node, "must be a map of keys to values")
		return
	}
	fields := map[string]int{} // by lower-case key
	for i := range out.NumField() {
		fields[strings.ToLower(key(out.Type().Field(i)))] = i
	}
	type entry struct {
		name  string
		field int
		exact bool
	}
	var known []entry
	var unknown []string
	for k := range m {
		name := keyText(k)
		if i, ok := fields[strings.ToLower(name)]; ok {
			known = append(known, entry{name, i, name == key(out.Type().Field(i))})
		} else {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	for _, name := range unknown {
		d.unknown(join(path, clip(name)), name)
	}
	slices.SortFunc(known, func(a, b entry) int {
		if a.exact != b.exact {
			if b.exact {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.name, b.name)
	})
	for _, e := range known {
		d.value(join(path, key(out.Type().Field(e.field))), m[e.name], out.Field(e.field))
	}
}

func (d *decoder) unknown(path, name string) {
	if why, ok := retired[strings.ToLower(name)]; ok {
		d.warn(path, "key of an earlier release is ignored: "+why)
		return
	}
	d.warn(path, "unknown key is ignored, check its spelling and place")
}

// list replaces the default list. A null among strings is an empty string; an element that is
// itself a map starts from the default element at its place, as it always has.
func (d *decoder) list(path string, node any, out reflect.Value) {
	l, ok := node.([]any)
	if !ok {
		d.refuse(path, node, "must be a list")
		return
	}
	if len(l) > maxEntries {
		d.refuse(path, node, fmt.Sprintf("has %d entries, at most %d are possible", len(l), maxEntries))
		return
	}
	list := reflect.MakeSlice(out.Type(), len(l), len(l))
	for i, e := range l {
		if list.Index(i).Kind() == reflect.Struct && i < out.Len() {
			list.Index(i).Set(out.Index(i))
		}
		d.value(fmt.Sprintf("%s[%d]", path, i), e, list.Index(i))
	}
	out.Set(list)
}

// gates decodes featureGates. Names are kept as written: unknown ones are judged later.
func (d *decoder) gates(path string, node any, out reflect.Value) {
	m, ok := node.(map[any]any)
	if !ok {
		d.refuse(path, node, "must be a map of names to true or false")
		return
	}
	if len(m) > maxEntries {
		d.refuse(path, node, fmt.Sprintf("has %d entries, at most %d are possible", len(m), maxEntries))
		return
	}
	gates := make(map[string]bool, len(m))
	for k, v := range m {
		name := clip(keyText(k))
		switch v := v.(type) {
		case nil:
		case bool:
			gates[name] = v
		default:
			d.refuse(join(path, name), v, "must be true or false")
		}
	}
	out.Set(reflect.ValueOf(gates))
}

func setBool(node any, out reflect.Value) error {
	b, ok := node.(bool)
	if !ok {
		return errors.New("must be true or false")
	}
	out.SetBool(b)
	return nil
}

// setInt takes whole numbers, also those written as 1e3. Text is refused even if it looks like
// a number: spec 01 §3.
func setInt(node any, out reflect.Value) error {
	n, ok := whole(node)
	if !ok {
		return errors.New("must be a plain whole number")
	}
	if out.OverflowInt(n) {
		return fmt.Errorf("must fit %d bits", out.Type().Bits())
	}
	out.SetInt(n)
	return nil
}

func setUint(node any, out reflect.Value) error {
	n, ok := whole(node)
	if !ok {
		return errors.New("must be a plain whole number")
	}
	if n < 0 || out.OverflowUint(uint64(n)) {
		return fmt.Errorf("must be a number from 0 to %d", uint64(math.MaxUint32))
	}
	out.SetUint(uint64(n))
	return nil
}

func whole(node any) (int64, bool) {
	switch n := node.(type) {
	case int:
		return int64(n), true
	case int64:
		return n, true
	case float64:
		// 2^53 bounds what a float holds exactly; real values are far below.
		if n == math.Trunc(n) && math.Abs(n) < 1<<53 {
			return int64(n), true
		}
	}
	return 0, false
}

// setString takes text, and numbers and booleans as the text that YAML reads them as.
func setString(node any, out reflect.Value) error {
	var s string
	switch n := node.(type) {
	case string:
		s = n
	case bool:
		s = strconv.FormatBool(n)
	case int:
		s = strconv.Itoa(n)
	case int64:
		s = strconv.FormatInt(n, 10)
	case uint64:
		s = strconv.FormatUint(n, 10)
	case float64:
		s = strconv.FormatFloat(n, 'g', -1, 32)
	default:
		return errors.New("must be text")
	}
	if len(s) > maxString {
		return fmt.Errorf("is longer than %d bytes", maxString)
	}
	if !utf8.ValidString(s) {
		return errors.New("must be text in UTF-8")
	}
	if out.Type() == reflect.TypeFor[v1alpha1.IptablesMode]() && !slices.Contains(v1alpha1.IptablesModes(), s) {
		return fmt.Errorf("must be one of %s", strings.Join(v1alpha1.IptablesModes(), ", "))
	}
	out.SetString(s)
	return nil
}

func describe(node any) string {
	switch node.(type) {
	case map[any]any:
		return "a map"
	case []any:
		return "a list"
	case string:
		return "text"
	default:
		return "a scalar"
	}
}

// keyText is the text of a map key; YAML allows others than strings.
func keyText(k any) string {
	switch k := k.(type) {
	case string:
		return k
	case bool, int, int64, uint64, float64:
		return fmt.Sprint(k)
	default:
		return "<" + describe(k) + ">"
	}
}

func key(f reflect.StructField) string { return f.Tag.Get("json") }

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
