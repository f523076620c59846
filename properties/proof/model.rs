//! A solver's model, read: which elements each sort has, and what each relation holds of.

use super::formula::{Sort, Term};
use super::relations::Relation;
use super::sexp::Sexp;
use std::collections::BTreeMap;

/// A model as z3 prints it.
#[derive(Clone, Debug)]
pub struct Model {
    elements: BTreeMap<Sort, Vec<String>>,
    definitions: BTreeMap<String, Definition>,
}

#[derive(Clone, Debug)]
struct Definition {
    parameters: Vec<String>,
    body: Sexp,
}

impl Model {
    /// Reads what a solver has printed for `(get-model)`.
    ///
    /// # Errors
    /// If it is no such model.
    pub fn read(model: &Sexp) -> Result<Self, String> {
        let mut read = Model { elements: BTreeMap::new(), definitions: BTreeMap::new() };
        for part in model.parts() {
            let text = |at: usize| part.parts().get(at).and_then(Sexp::text);
            match (text(0), part.parts()) {
                (Some("declare-fun"), [_, Sexp::Atom(name), _, Sexp::Atom(sort)]) => {
                    if let Some(&sort) = Sort::ALL.iter().find(|known| known.name() == sort) {
                        read.elements.entry(sort).or_default().push(name.clone());
                    }
                }
                (Some("define-fun"), [_, Sexp::Atom(name), parameters, _, body]) => {
                    let name_of = |parameter: &Sexp| parameter.parts().first()?.text().map(String::from);
                    let parameters = parameters.parts().iter().filter_map(name_of).collect();
                    let definition = Definition { parameters, body: body.clone() };
                    read.definitions.insert(name.clone(), definition);
                }
                _ => {}
            }
        }
        if read.definitions.is_empty() {
            return Err("the solver gave no model that can be read".into());
        }
        read.order()?;
        Ok(read)
    }

    /// Puts views and numbers in their order, and gives every sort an element.
    fn order(&mut self) -> Result<(), String> {
        for &sort in Sort::ALL {
            self.elements.entry(sort).or_insert_with(|| vec![format!("{}!any", sort.name())]);
        }
        for (sort, relation) in [(Sort::View, Relation::le), (Sort::Number, Relation::below)] {
            let mut ranked = Vec::new();
            for element in &self.elements[&sort] {
                let mut rank = 0;
                for other in &self.elements[&sort] {
                    rank += usize::from(self.holds(relation, &[other.clone(), element.clone()])?);
                }
                ranked.push((rank, element.clone()));
            }
            ranked.sort();
            self.elements.insert(sort, ranked.into_iter().map(|(_, element)| element).collect());
        }
        Ok(())
    }

    /// How many elements the sort has.
    pub fn size(&self, sort: Sort) -> usize {
        self.elements[&sort].len()
    }

    /// Which element a constant is; the first if the model does not say.
    pub fn constant(&self, term: Term) -> usize {
        let value = self.definitions.get(&term.symbol());
        let value = value.and_then(|definition| self.value(&definition.body, &BTreeMap::new()).ok());
        let at = |value| self.elements[&term.sort].iter().position(|element| *element == value);
        value.and_then(at).unwrap_or(0)
    }

    /// Whether a relation holds of elements.
    ///
    /// # Errors
    /// If the model uses what is not understood here.
    pub fn relation(&self, relation: Relation, tuple: &[usize]) -> Result<bool, String> {
        let element = |(&(_, sort), &at): (&(&str, Sort), &usize)| self.elements[&sort][at].clone();
        let elements: Vec<String> = relation.places().iter().zip(tuple).map(element).collect();
        self.holds(relation, &elements)
    }

    fn holds(&self, relation: Relation, elements: &[String]) -> Result<bool, String> {
        let Some(definition) = self.definitions.get(relation.name()) else { return Ok(false) };
        Ok(self.apply(definition, elements.to_vec())? == "true")
    }

    fn apply(&self, definition: &Definition, arguments: Vec<String>) -> Result<String, String> {
        let bound: BTreeMap<String, String> = definition.parameters.iter().cloned().zip(arguments).collect();
        self.value(&definition.body, &bound)
    }

    fn value(&self, term: &Sexp, bound: &BTreeMap<String, String>) -> Result<String, String> {
        let parts = match term {
            Sexp::Atom(atom) => {
                return match (bound.get(atom), self.definitions.get(atom)) {
                    (Some(value), _) => Ok(value.clone()),
                    (None, Some(definition)) if definition.parameters.is_empty() => {
                        self.value(&definition.body, &BTreeMap::new())
                    }
                    _ => Ok(atom.clone()),
                };
            }
            Sexp::List(parts) => parts,
        };
        let [Sexp::Atom(head), arguments @ ..] = parts.as_slice() else {
            return Err(format!("{term} in a model is not understood"));
        };
        if head == "let" {
            let [bindings, body] = arguments else {
                return Err(format!("{term} in a model is not understood"));
            };
            let mut inner = bound.clone();
            for binding in bindings.parts() {
                if let [Sexp::Atom(name), value] = binding.parts() {
                    inner.insert(name.clone(), self.value(value, bound)?);
                }
            }
            return self.value(body, &inner);
        }
        let values = arguments.iter().map(|argument| self.value(argument, bound));
        let values: Vec<String> = values.collect::<Result<_, String>>()?;
        let truth = |holds: bool| Ok(holds.to_string());
        let is_true = |value: &String| value == "true";
        match head.as_str() {
            "and" => truth(values.iter().all(is_true)),
            "or" => truth(values.iter().any(is_true)),
            "not" => truth(values.iter().all(|value| !is_true(value))),
            "=>" => truth(values.len() == 2 && (!is_true(&values[0]) || is_true(&values[1]))),
            "=" => truth(values.windows(2).all(|pair| pair[0] == pair[1])),
            "ite" if values.len() == 3 => Ok(values[if is_true(&values[0]) { 1 } else { 2 }].clone()),
            _ => match self.definitions.get(head) {
                Some(definition) => self.apply(definition, values),
                None => Err(format!("{head} in a model is not understood")),
            },
        }
    }
}
