package api

import (
	"context"
	"errors"
	"os"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/portcullis-k8s/portcullis/test/lab/poll"
)

// testRights: who may read pools, and who may write them, with the roles that ship.
func (s *server) testRights(t *testing.T) {
	for _, file := range []string{"ports_view.yaml", "ports_admin.yaml"} {
		role := &rbacv1.ClusterRole{}
		if err := yaml.UnmarshalStrict([]byte(read(t, "../../../config/rbac/"+file)), role); err != nil {
			t.Fatal(err)
		}
		if err := s.Create(t.Context(), role); err != nil {
			t.Fatal(err)
		}
	}
	for _, role := range []string{"portcullis-ports-view", "portcullis-ports-admin", "view", "edit", "admin"} {
		s.bind(t, role+"-everywhere", role, "")
	}
	s.bind(t, "view-in-default", "view", "default")
	poll.Until(t, func(ctx context.Context) error { // the controller adds our role to the aggregated ones, one after the other
		for _, user := range []string{"view-everywhere", "edit-everywhere", "admin-everywhere"} {
			if may, err := s.may(ctx, user, "list", "portpools"); err != nil || !may {
				return errors.Join(errors.New(user+" may not list portpools"), err)
			}
		}
		return nil
	})
	for _, c := range []struct {
		user, verb, resource string
		want                 bool
	}{
		{"portcullis-ports-view-everywhere", "watch", "portpolicies", true},
		{"portcullis-ports-view-everywhere", "create", "portpools", false},
		{"portcullis-ports-view-everywhere", "delete", "portclaims", false},
		{"view-everywhere", "get", "portpools", true},
		{"view-everywhere", "list", "portpolicies", true},
		{"view-everywhere", "watch", "portclaims", true},
		{"view-everywhere", "update", "portpools", false},
		{"edit-everywhere", "update", "portpools", false},
		{"admin-everywhere", "get", "portclaims", true},
		{"admin-everywhere", "create", "portpools", false},
		{"admin-everywhere", "update", "portpolicies", false},
		{"admin-everywhere", "delete", "portclaims", false},
		{"view-in-default", "list", "portpools", false}, // what has no namespace is out of reach of a RoleBinding
		{"portcullis-ports-admin-everywhere", "create", "portpools", true},
		{"portcullis-ports-admin-everywhere", "patch", "portpolicies", true},
		{"portcullis-ports-admin-everywhere", "delete", "portclaims", true},
		{"portcullis-ports-admin-everywhere", "create", "portclaims", false},
		{"nobody", "list", "portpools", false},
	} {
		if got, err := s.may(t.Context(), c.user, c.verb, c.resource); err != nil || got != c.want {
			t.Errorf("may %s %s %s? %v, want %v (%v)", c.user, c.verb, c.resource, got, c.want, err)
		}
	}
}

// bind gives a role to a user, in one namespace or everywhere.
func (s *server) bind(t *testing.T, user, role, namespace string) {
	t.Helper()
	meta := metav1.ObjectMeta{Name: user, Namespace: namespace}
	ref := rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role}
	subjects := []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: user}}
	var err error
	if namespace == "" {
		err = s.Create(t.Context(), &rbacv1.ClusterRoleBinding{ObjectMeta: meta, RoleRef: ref, Subjects: subjects})
	} else {
		err = s.Create(t.Context(), &rbacv1.RoleBinding{ObjectMeta: meta, RoleRef: ref, Subjects: subjects})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// may asks the API server what a user may do.
func (s *server) may(ctx context.Context, user, verb, resource string) (bool, error) {
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User:               user,
		ResourceAttributes: &authorizationv1.ResourceAttributes{Group: "portcullis.dev", Verb: verb, Resource: resource},
	}}
	err := s.Create(ctx, review)
	return review.Status.Allowed, err
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
