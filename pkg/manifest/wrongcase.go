package manifest

import (
	"cmp"
	"reflect"
	"slices"
	"strings"
)

// spelled returns how the API spells a field by which an object claims ports, by its name in lower case; "" for others. In
// another case the API does not know it, and the object seems to claim no port.
func spelled(lower string) string {
	switch lower {
	case "containers", "ports", "protocol", "port":
		return lower
	case "initcontainers":
		return "initContainers"
	case "hostport":
		return "hostPort"
	case "hostip":
		return "hostIP"
	case "containerport":
		return "containerPort"
	case "hostnetwork":
		return "hostNetwork"
	case "nodename":
		return "nodeName"
	case "nodeport":
		return "nodePort"
	case "targetport":
		return "targetPort"
	case "healthchecknodeport":
		return "healthCheckNodePort"
	case "externalips":
		return "externalIPs"
	case "externaltrafficpolicy":
		return "externalTrafficPolicy"
	case "allocateloadbalancernodeports":
		return "allocateLoadBalancerNodePorts"
	default:
		return ""
	}
}

// wrongCase finds the fields of an object of a type that the API knows in another case only.
func wrongCase(object reflect.Type, fields map[string]any) []Misfit {
	var found []Misfit
	var below func(path []step, t reflect.Type, v any)
	below = func(path []step, t reflect.Type, v any) {
		switch v := v.(type) {
		case map[string]any:
			for name, value := range v {
				at := append(slices.Clone(path), fieldStep(name))
				inside, known := fieldOf(t, name)
				if known == name {
					below(at, inside, value)
				} else if _, both := v[known]; known != "" && !both && known == spelled(strings.ToLower(name)) {
					found = append(found, Misfit{Field: formatPath(at), Known: known})
				}
			}
		case []any:
			if t = direct(t); t != nil && t.Kind() == reflect.Slice {
				for i, item := range v {
					below(append(slices.Clone(path), indexStep(i)), t.Elem(), item)
				}
			}
		}
	}
	if hasWrongCase(fields) {
		below(nil, object, fields)
	}
	slices.SortFunc(found, func(a, b Misfit) int { return cmp.Compare(a.Field, b.Field) })
	return found
}

// hasWrongCase reports whether any name below v could be such a field, which is seldom so and quickly seen.
func hasWrongCase(v any) bool {
	switch v := v.(type) {
	case map[string]any:
		for name, value := range v {
			if known := spelled(strings.ToLower(name)); known != "" && known != name || hasWrongCase(value) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(v, hasWrongCase)
	}
	return false
}

// fieldOf returns the type of a struct's field by its name in JSON, in any case, and how the API spells it; the name itself
// for the keys of a map, and "" where there is none.
func fieldOf(t reflect.Type, name string) (inside reflect.Type, known string) {
	t = direct(t)
	switch {
	case t == nil:
		return nil, ""
	case t.Kind() == reflect.Map:
		return t.Elem(), name
	case t.Kind() != reflect.Struct:
		return nil, ""
	}
	for f := range t.Fields() {
		tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if tag == "" && f.Anonymous {
			if in, k := fieldOf(f.Type, name); k == name || k != "" && known == "" {
				inside, known = in, k
			}
		}
		if tag == name || tag != "" && known == "" && strings.EqualFold(tag, name) {
			inside, known = f.Type, tag
		}
		if known == name {
			break
		}
	}
	return inside, known
}

func direct(t reflect.Type) reflect.Type {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}
