//! Which members of a resource an expression can touch, told from the expression alone.
//!
//! The walk mirrors [`eval`](super::eval): where that looks up a member, this wants it. What it cannot follow, it wants whole; so an
//! expression sees on a projected resource exactly what it would see on the whole one.

use super::expr::{Expr, Member};
use crate::json::{Place, Projection};

/// Where the items of an expression lie. Computed values lie nowhere.
pub(crate) type Places = Vec<Place>;

/// What an expression is evaluated on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct On<'p> {
    /// `$this`
    pub this: &'p [Place],
    /// `%context`
    pub context: &'p [Place],
    /// `$total`
    pub total: &'p [Place],
}

impl<'p> On<'p> {
    /// A whole expression on elements at these places.
    pub(crate) fn elements(places: &'p [Place]) -> Self {
        Self {
            this: places,
            context: places,
            total: &[],
        }
    }

    fn with(self, this: &'p [Place]) -> Self {
        Self { this, ..self }
    }
}

/// Wants what the expression looks up, and returns where its items lie.
pub(crate) fn of(expr: &Expr, on: On<'_>, projection: &mut Projection) -> Places {
    let mut uses = Uses { projection };
    uses.places(expr, on)
}

/// Wants all of the items of the expression.
pub(crate) fn whole(expr: &Expr, on: On<'_>, projection: &mut Projection) {
    let mut uses = Uses { projection };
    uses.compared(expr, on);
}

/// Places of one expression that are told apart.
const MOST: usize = 64;

struct Uses<'p> {
    projection: &'p mut Projection,
}

impl Uses<'_> {
    #[expect(
        clippy::too_many_lines,
        reason = "an arm for each kind of operator, and none forgotten"
    )]
    fn places(&mut self, expr: &Expr, on: On<'_>) -> Places {
        match expr {
            Expr::This | Expr::Root(_) => on.this.to_vec(),
            Expr::Context => on.context.to_vec(),
            Expr::Total => on.total.to_vec(),
            Expr::Resource => vec![Projection::ROOT],
            Expr::Member(base, member) => self.member(base, member, on),
            Expr::Choice(base, member, keys, _) => {
                let keys = keys.iter().map(|key| key.name.as_str());
                self.properties(base, on, &keys.chain([member.name.as_str()]))
            }
            Expr::Extension(base, url) => {
                self.compared(url, on);
                let places = self.step(base, on, |wanted, of| wanted.want(of, "extension"));
                for place in &places {
                    self.projection.want(*place, "url");
                }
                places
            }
            Expr::ResourceKey(base) => self.step(base, on, |wanted, of| wanted.want(of, "id")),
            Expr::ReferenceKey(base, _) => {
                self.step(base, on, |wanted, of| wanted.want(of, "reference"));
                Places::new()
            }
            // What passes items on, or some of them.
            Expr::OfType(base, _)
            | Expr::As(base, _)
            | Expr::First(base)
            | Expr::Last(base)
            | Expr::Single(base) => self.places(base, on),
            Expr::Item(base, place) | Expr::Skip(base, place) | Expr::Take(base, place) => {
                self.compared(place, on);
                self.places(base, on)
            }
            Expr::Combine(a, b) => self.all([&**a, &**b], on),
            Expr::Where(base, criteria) => {
                let places = self.places(base, on);
                self.places(criteria, on.with(&places));
                places
            }
            Expr::Select(base, projection) | Expr::On(base, projection) => {
                let places = self.places(base, on);
                self.places(projection, on.with(&places))
            }
            Expr::If(criterion, then, otherwise) => {
                self.places(criterion, on);
                self.all([&**then, &**otherwise], on)
            }
            // What is below the items of the first round is what the next ones find.
            Expr::Repeat(base, projection) => {
                let places = self.places(base, on);
                self.compared(projection, on.with(&places))
            }
            Expr::Aggregate(base, step, start) => self.aggregate(base, step, start.as_deref(), on),
            // What only asks whether there are items, or whether they are true.
            Expr::All(base, criteria) => {
                let places = self.places(base, on);
                self.places(criteria, on.with(&places));
                Places::new()
            }
            Expr::Is(operand, _)
            | Expr::Exists(operand)
            | Expr::IsEmpty(operand)
            | Expr::Count(operand)
            | Expr::Not(operand)
            | Expr::Quantified(_, operand) => {
                self.places(operand, on);
                Places::new()
            }
            Expr::And(operands) | Expr::Or(operands) => {
                self.all(operands, on);
                Places::new()
            }
            Expr::Xor(a, b) | Expr::Implies(a, b) => {
                self.all([&**a, &**b], on);
                Places::new()
            }
            // All others compare items or compute with their values, which of a quantity are its members; or walk down from them.
            Expr::Children(base)
            | Expr::Descendants(base)
            | Expr::Distinct(base)
            | Expr::IsDistinct(base)
            | Expr::Reduce(_, base)
            | Expr::HasValue(base)
            | Expr::Negate(base) => self.compared(base, on),
            Expr::Matches(base, pattern, _) => {
                self.compared_all(std::iter::once(&**base).chain(pattern.computed()), on)
            }
            Expr::ReplaceMatches(base, pattern, by) => {
                self.compared_all([&**base, &**by].into_iter().chain(pattern.computed()), on)
            }
            Expr::Equal(a, b, _)
            | Expr::Equivalent(a, b, _)
            | Expr::In(a, b)
            | Expr::SubsetOf(a, b)
            | Expr::Intersect(a, b)
            | Expr::Exclude(a, b)
            | Expr::Compare(_, a, b)
            | Expr::Concatenate(a, b)
            | Expr::Arithmetic(_, a, b) => self.compared_all([&**a, &**b], on),
            Expr::Join(base, other) | Expr::Split(base, other) => {
                self.compared_all(std::iter::once(&**base).chain(other.as_deref()), on)
            }
            Expr::Function(_, base, arguments) => {
                self.compared_all(std::iter::once(&**base).chain(arguments), on)
            }
            Expr::Union(operands) => self.compared_all(operands, on),
            Expr::Literal(_) | Expr::Empty | Expr::Index | Expr::RowIndex => Places::new(),
        }
    }

    fn member(&mut self, base: &Expr, member: &Member, on: On<'_>) -> Places {
        if member.choice || member.keys.is_empty() {
            return self.step(base, on, |wanted, of| wanted.want_choice(of, &member.name));
        }
        let keys = member.keys.iter().map(|key| key.name.as_str());
        self.properties(base, on, &keys.chain([member.name.as_str()]))
    }

    /// Members of several names; what they are of is looked at once, or it would be twice as often with each step of a path.
    fn properties<'n>(
        &mut self,
        base: &Expr,
        on: On<'_>,
        names: &(impl Iterator<Item = &'n str> + Clone),
    ) -> Places {
        let mut places = Places::new();
        for of in self.places(base, on) {
            places.extend(names.clone().map(|name| self.projection.want(of, name)));
        }
        self.few(places)
    }

    /// `$total` is what the step before has made: of the start, of the items, or of what it was made of itself.
    fn aggregate(&mut self, base: &Expr, step: &Expr, start: Option<&Expr>, on: On<'_>) -> Places {
        let places = self.compared(base, on);
        let mut totals = places.clone();
        totals.extend(start.map_or_else(Places::new, |start| self.compared(start, on)));
        let on = On {
            this: &places,
            total: &totals,
            ..on
        };
        // All that it makes is wanted whole, so that there is no more to want of it where it is the total of the next step.
        let made = self.compared(step, on);
        totals.extend(made);
        tidy(&mut totals);
        totals
    }

    fn step(
        &mut self,
        base: &Expr,
        on: On<'_>,
        mut want: impl FnMut(&mut Projection, Place) -> Place,
    ) -> Places {
        let mut places = self.places(base, on);
        for place in &mut places {
            *place = want(self.projection, *place);
        }
        self.few(places)
    }

    fn all<'e>(&mut self, operands: impl IntoIterator<Item = &'e Expr>, on: On<'_>) -> Places {
        let mut places = Places::new();
        for operand in operands {
            places.extend(self.places(operand, on));
            places = self.few(places);
        }
        places
    }

    /// Wants the items whole.
    fn compared(&mut self, expr: &Expr, on: On<'_>) -> Places {
        let places = self.places(expr, on);
        for place in &places {
            self.projection.want_whole(*place);
        }
        places
    }

    fn compared_all<'e>(&mut self, operands: impl IntoIterator<Item = &'e Expr>, on: On<'_>) -> Places {
        let mut places = Places::new();
        for operand in operands {
            places.extend(self.compared(operand, on));
            places = self.few(places);
        }
        places
    }

    /// Each place once. More of them than a view of the field has are not told apart: then all of the resource is wanted, or what is wanted of
    /// each of them would take the square of the expression's length to tell.
    fn few(&mut self, mut places: Places) -> Places {
        tidy(&mut places);
        if places.len() > MOST {
            self.projection.want_whole(Projection::ROOT);
            return vec![Projection::ROOT];
        }
        places
    }
}

fn tidy(places: &mut Places) {
    places.sort_unstable();
    places.dedup();
}
